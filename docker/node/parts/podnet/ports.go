package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// portRange is what a connection may go to. Without numbers it is the whole protocol; the zero value is everything,
// protocols without ports included.
type portRange struct {
	protocol    v1.Protocol
	first, last int32
}

var everything = portRange{}

// allowances turns the rule into what it means for pod. A name in its ports is looked up in the pod that is connected
// to: pod itself on the way in, each of the peers on the way out, where the name may mean a number for each of them.
func (r rule) allowances(policy string, pod addressed, direction networking.PolicyType) []allowance {
	if len(r.ports) == 0 { // no list means everything
		return []allowance{{policy, r.peers, []portRange{everything}}}
	}
	ports := numbered(r.ports)
	if direction == networking.PolicyTypeIngress {
		for _, port := range named(r.ports) {
			ports = append(ports, lookUp(port, pod.Pod)...)
		}
		return []allowance{{policy, r.peers, ports}}
	}
	result := []allowance{{policy, r.peers, ports}}
	for _, port := range named(r.ports) {
		result = append(result, byNumber(policy, port, r.destinations)...)
	}
	return result
}

// byNumber groups pods by the number that they give to a port's name.
func byNumber(policy string, port networking.NetworkPolicyPort, pods []addressed) []allowance {
	groups := map[int32]*allowance{}
	for _, pod := range pods {
		for _, found := range lookUp(port, pod.Pod) {
			group := groups[found.first]
			if group == nil {
				group = &allowance{policy: policy, ports: []portRange{found}}
				groups[found.first] = group
			}
			group.peers.pods = append(group.peers.pods, pod)
		}
	}
	var result []allowance
	for _, number := range slices.Sorted(maps.Keys(groups)) {
		result = append(result, *groups[number])
	}
	return result
}

// lookUp returns the numbers that pod gives to a port's name, none if no container has it.
func lookUp(port networking.NetworkPolicyPort, pod *v1.Pod) []portRange {
	var found []portRange
	for _, container := range listening(pod) {
		for _, offered := range container.Ports {
			if offered.Name == port.Port.StrVal && orTCP(offered.Protocol) == protocolOf(port) {
				found = append(found, portRange{protocolOf(port), offered.ContainerPort, offered.ContainerPort})
			}
		}
	}
	return found
}

// listening returns the containers that run as long as the pod does.
func listening(pod *v1.Pod) []v1.Container {
	containers := slices.Clone(pod.Spec.Containers)
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == v1.ContainerRestartPolicyAlways {
			containers = append(containers, container)
		}
	}
	return containers
}

func named(ports []networking.NetworkPolicyPort) []networking.NetworkPolicyPort {
	return slices.DeleteFunc(slices.Clone(ports), func(port networking.NetworkPolicyPort) bool {
		return !isNamed(port) || checkPort(port) != nil
	})
}

func numbered(ports []networking.NetworkPolicyPort) []portRange {
	var result []portRange
	for _, port := range ports {
		switch {
		case isNamed(port) || checkPort(port) != nil:
		case port.Port == nil:
			result = append(result, portRange{protocol: protocolOf(port)})
		case port.EndPort == nil:
			result = append(result, portRange{protocolOf(port), port.Port.IntVal, port.Port.IntVal})
		default:
			result = append(result, portRange{protocolOf(port), port.Port.IntVal, *port.EndPort})
		}
	}
	return result
}

func isNamed(port networking.NetworkPolicyPort) bool {
	return port.Port != nil && port.Port.Type == intstr.String
}

// checkPort says what is wrong with a port. The API server refuses most of it, but not in every version.
func checkPort(port networking.NetworkPolicyPort) error {
	switch protocolOf(port) {
	case v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP:
	default:
		return fmt.Errorf("%s is no protocol with ports", protocolOf(port))
	}
	switch {
	case port.EndPort != nil && (port.Port == nil || isNamed(port)):
		return errors.New("endPort needs a number that it starts from")
	case port.Port == nil || isNamed(port):
		return nil
	case port.Port.IntVal < 1 || port.Port.IntVal > 65535:
		return fmt.Errorf("%d is no port", port.Port.IntVal)
	case port.EndPort != nil && (*port.EndPort < port.Port.IntVal || *port.EndPort > 65535):
		return fmt.Errorf("%d to %d is no range", port.Port.IntVal, *port.EndPort)
	}
	return nil
}

func protocolOf(port networking.NetworkPolicyPort) v1.Protocol {
	if port.Protocol == nil {
		return v1.ProtocolTCP
	}
	return orTCP(*port.Protocol)
}

func orTCP(protocol v1.Protocol) v1.Protocol {
	if protocol == "" {
		return v1.ProtocolTCP
	}
	return protocol
}
