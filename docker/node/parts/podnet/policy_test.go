package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// A cluster of two nodes. The web pods of namespace a are on the node that decides; one of them calls its port 9090
// "http", the other 8080.
func testCluster(policies ...string) cluster {
	seen := cluster{
		namespaces: []*v1.Namespace{namespace("a", "team=red"), namespace("b", "team=blue"), namespace("c", "team=blue")},
		pods: []*v1.Pod{
			pod("a/web", "here", "10.0.0.1", "app=web", "http:TCP:8080", "dns:UDP:53"),
			pod("a/old-web", "here", "10.0.0.2", "app=web", "http:TCP:9090"),
			pod("a/client", "here", "10.0.0.3", "app=client"),
			pod("b/client", "there", "10.0.1.1", "app=client"),
			pod("b/web", "there", "10.0.1.2", "app=web", "http:TCP:80"),
			pod("c/client", "there", "10.0.1.3", "app=client"),
		},
	}
	for i, text := range policies {
		policy := &networking.NetworkPolicy{ObjectMeta: meta.ObjectMeta{Namespace: "a", Name: fmt.Sprintf("p%d", i)}}
		if err := yaml.UnmarshalStrict([]byte(text), &policy.Spec); err != nil {
			panic(fmt.Sprintf("%s: %v", text, err))
		}
		seen.policies = append(seen.policies, policy)
	}
	return seen
}

func namespace(name, label string) *v1.Namespace {
	return &v1.Namespace{ObjectMeta: meta.ObjectMeta{Name: name, Labels: labelled(label)}}
}

func labelled(text string) map[string]string {
	key, value, _ := strings.Cut(text, "=")
	return map[string]string{key: value}
}

func pod(name, node, address, label string, ports ...string) *v1.Pod {
	space, own, _ := strings.Cut(name, "/")
	container := v1.Container{}
	for _, text := range ports {
		parts := strings.Split(text, ":")
		var number int32
		_, _ = fmt.Sscan(parts[2], &number)
		container.Ports = append(container.Ports, v1.ContainerPort{
			Name: parts[0], Protocol: v1.Protocol(parts[1]), ContainerPort: number,
		})
	}
	return &v1.Pod{
		ObjectMeta: meta.ObjectMeta{Namespace: space, Name: own, Labels: labelled(label), UID: types.UID(name)},
		Spec:       v1.PodSpec{NodeName: node, Containers: []v1.Container{container}},
		Status:     v1.PodStatus{Phase: v1.PodRunning, PodIP: address},
	}
}

// said renders an isolation for comparison: a line for each pod, "ADDRESS: PEERS PORTS; …".
func said(i isolation) string {
	var lines []string
	for _, pod := range i.pods {
		var allowed []string
		for _, one := range pod.allowed {
			if text := sayAllowance(one); text != "" {
				allowed = append(allowed, text)
			}
		}
		lines = append(lines, pod.address.String()+": "+strings.Join(allowed, "; "))
	}
	return strings.Join(lines, "\n")
}

func sayAllowance(allowed allowance) string {
	var who, what []string
	for _, pod := range allowed.peers.pods {
		who = append(who, pod.address.String())
	}
	for _, block := range allowed.peers.blocks {
		text := block.cidr.String()
		for _, hole := range block.except {
			text += "-" + hole.String()
		}
		who = append(who, text)
	}
	for _, port := range allowed.ports {
		switch {
		case port == everything:
			what = append(what, "*")
		case port.first == 0:
			what = append(what, string(port.protocol))
		default:
			what = append(what, fmt.Sprintf("%s/%d-%d", port.protocol, port.first, port.last))
		}
	}
	if len(who) == 0 || len(what) == 0 {
		return ""
	}
	return strings.Join(who, ",") + " " + strings.Join(what, ",")
}

func TestDecide(t *testing.T) {
	const web = "podSelector: {matchLabels: {app: web}}\n"
	for _, test := range []struct {
		name            string
		policies        []string
		ingress, egress string
	}{
		{name: "no policy isolates nobody"},
		{
			name:     "no types and no rules: ingress alone, nothing allowed, all pods of the namespace",
			policies: []string{"podSelector: {}"},
			ingress:  "10.0.0.1: \n10.0.0.2: \n10.0.0.3: ",
		},
		{
			name:     "no types and a rule for egress: both",
			policies: []string{"podSelector: {matchLabels: {app: client}}\negress: [{}]"},
			ingress:  "10.0.0.3: ",
			egress:   "10.0.0.3: 0.0.0.0/0 *",
		},
		{
			name:     "type egress alone",
			policies: []string{"podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]"},
			egress:   "10.0.0.3: ",
		},
		{
			name:     "rules of a direction that is not among the types do not count",
			policies: []string{"podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\ningress: [{}]"},
			egress:   "10.0.0.3: ",
		},
		{
			name:     "empty lists of peers and ports allow everything",
			policies: []string{"podSelector: {matchLabels: {app: client}}\ningress: [{from: [], ports: []}]"},
			ingress:  "10.0.0.3: 0.0.0.0/0 *",
		},
		{
			name:     "a pod selector alone means the policy's namespace",
			policies: []string{web + "ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]"},
			ingress:  "10.0.0.1: 10.0.0.3 *\n10.0.0.2: 10.0.0.3 *",
		},
		{
			name:     "a namespace selector alone means all its pods",
			policies: []string{"podSelector: {matchLabels: {app: client}}\ningress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]"},
			ingress:  "10.0.0.3: 10.0.1.1,10.0.1.2,10.0.1.3 *",
		},
		{
			name:     "both in one peer have to match",
			policies: []string{"podSelector: {matchLabels: {app: client}}\ningress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: web}}}]}]"},
			ingress:  "10.0.0.3: 10.0.1.2 *",
		},
		{
			name:     "in two peers either may match",
			policies: []string{"podSelector: {matchLabels: {app: client}}\ningress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: web}}}]}]"},
			ingress:  "10.0.0.3: 10.0.0.1,10.0.0.2,10.0.1.1,10.0.1.2,10.0.1.3 *",
		},
		{
			name:     "an empty namespace selector means every namespace",
			policies: []string{"podSelector: {matchLabels: {app: client}}\ningress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]"},
			ingress:  "10.0.0.3: 10.0.0.1,10.0.0.2,10.0.1.2 *",
		},
		{
			name:     "expressions select",
			policies: []string{"podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}\ningress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/nothing, operator: Exists}]}}]}]"},
			ingress:  "10.0.0.3: ",
		},
		{
			name:     "a range with exceptions, its host bits cut off",
			policies: []string{"podSelector: {matchLabels: {app: client}}\ningress: [{from: [{ipBlock: {cidr: 192.0.2.9/24, except: [192.0.2.0/28, 192.0.2.0/30]}}]}]"},
			ingress:  "10.0.0.3: 192.0.2.0/24-192.0.2.0/28-192.0.2.0/30 *",
		},
		{
			name:     "numbers, a range of them, whole protocols",
			policies: []string{"podSelector: {matchLabels: {app: client}}\ningress: [{ports: [{port: 80}, {port: 8000, endPort: 8100, protocol: TCP}, {protocol: UDP}, {port: 1, protocol: SCTP}, {}]}]"},
			ingress:  "10.0.0.3: 0.0.0.0/0 TCP/80-80,TCP/8000-8100,UDP,SCTP/1-1,TCP",
		},
		{
			name:     "on the way in a name is what the pod itself calls so",
			policies: []string{web + "ingress: [{ports: [{port: http}]}]"},
			ingress:  "10.0.0.1: 0.0.0.0/0 TCP/8080-8080\n10.0.0.2: 0.0.0.0/0 TCP/9090-9090",
		},
		{
			name:     "a name that no container has, or only for another protocol, allows nothing",
			policies: []string{web + "ingress: [{ports: [{port: nothing}, {port: http, protocol: UDP}, {port: dns}]}]"},
			ingress:  "10.0.0.1: \n10.0.0.2: ",
		},
		{
			name:     "on the way out a name is what each of the peers calls so",
			policies: []string{"podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\negress: [{to: [{podSelector: {}}], ports: [{port: http}, {port: 53, protocol: UDP}]}]"},
			egress:   "10.0.0.3: 10.0.0.1,10.0.0.2,10.0.0.3 UDP/53-53; 10.0.0.1 TCP/8080-8080; 10.0.0.2 TCP/9090-9090",
		},
		{
			name:     "on the way out to everybody, a name is looked up in all pods; to a range, in the pods it contains",
			policies: []string{"podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\negress: [{ports: [{port: dns, protocol: UDP}]}, {to: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.0.0/24]}}], ports: [{port: http}]}]"},
			egress:   "10.0.0.3: 10.0.0.1 UDP/53-53; 10.0.1.2 TCP/80-80",
		},
		{
			name: "two policies unite",
			policies: []string{
				"podSelector: {matchLabels: {app: client}}\ningress: [{ports: [{port: 1}]}]",
				"podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]",
			},
			ingress: "10.0.0.1: 10.0.0.3 *\n10.0.0.2: 10.0.0.3 *\n10.0.0.3: 0.0.0.0/0 TCP/1-1; 10.0.0.3 *",
		},
		{
			name:     "a policy that selects no pod",
			policies: []string{"podSelector: {matchLabels: {app: nobody}}"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := decide("here", testCluster(test.policies...))
			if got := said(result.ingress); got != test.ingress {
				t.Errorf("ingress:\n%s\nwanted:\n%s", got, test.ingress)
			}
			if got := said(result.egress); got != test.egress {
				t.Errorf("egress:\n%s\nwanted:\n%s", got, test.egress)
			}
			if len(result.complaints) > 0 {
				t.Errorf("complaints: %s", result.complaints)
			}
		})
	}
}

func TestWhatIsBrokenAllowsNothingAndStopsNothing(t *testing.T) {
	const client = "podSelector: {matchLabels: {app: client}}\ningress:\n- ports: [{port: 7}]\n"
	for name, broken := range map[string]string{
		"range":              "- from: [{ipBlock: {cidr: 10.0.0.0/99}}]",
		"other family":       "- from: [{ipBlock: {cidr: '2001:db8::/32'}}]",
		"exception":          "- from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]",
		"empty peer":         "- from: [{}]",
		"two kinds of peer":  "- from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]",
		"pod selector":       "- from: [{podSelector: {matchExpressions: [{key: a, operator: Near}]}}]",
		"namespace selector": "- from: [{namespaceSelector: {matchLabels: {'a b': c}}}]",
		"port":               "- ports: [{port: 70000}]",
		"end before start":   "- ports: [{port: 80, endPort: 79}]",
		"end without start":  "- ports: [{endPort: 79}]",
		"end after a name":   "- ports: [{port: http, endPort: 79}]",
		"protocol":           "- ports: [{port: 80, protocol: ICMP}]",
	} {
		t.Run(name, func(t *testing.T) {
			result := decide("here", testCluster(client+broken, "podSelector: {}\ningress: [{ports: [{port: 9}]}]"))
			const rest = "10.0.0.1: 0.0.0.0/0 TCP/9-9\n10.0.0.2: 0.0.0.0/0 TCP/9-9\n" +
				"10.0.0.3: 0.0.0.0/0 TCP/7-7; 0.0.0.0/0 TCP/9-9"
			if got := said(result.ingress); got != rest {
				t.Errorf("got:\n%s", got)
			}
			if len(result.complaints) != 1 {
				t.Errorf("complaints: %q", result.complaints)
			}
		})
	}
}

func TestAPolicyWhoseOwnSelectorIsBrokenSelectsNothing(t *testing.T) {
	result := decide("here", testCluster(
		"podSelector: {matchExpressions: [{key: a, operator: In}]}", "podSelector: {matchLabels: {app: client}}"))
	if got := said(result.ingress); got != "10.0.0.3: " || len(result.complaints) != 1 {
		t.Errorf("got %q, complaints %q", got, result.complaints)
	}
}

func TestOnlyPodsWithANetworkOfTheirOwnCount(t *testing.T) {
	seen := testCluster("podSelector: {}\ningress: [{from: [{podSelector: {}}]}]")
	ended, host, starting := seen.pods[0], seen.pods[1], seen.pods[2]
	ended.Status.Phase = v1.PodSucceeded
	host.Spec.HostNetwork = true
	result := decide("here", seen)
	if got := said(result.ingress); got != "10.0.0.3: 10.0.0.3 *" || result.ingress.waiting {
		t.Errorf("got %q, waiting %t", got, result.ingress.waiting)
	}
	starting.Status.PodIP = ""
	result = decide("here", seen)
	if len(result.ingress.pods) > 0 || !result.ingress.waiting || result.egress.waiting {
		t.Errorf("waiting: %+v %+v", result.ingress, result.egress)
	}
}

func TestAnAddressBelongsToTheYoungestPodThatClaimsIt(t *testing.T) {
	seen := testCluster("podSelector: {matchLabels: {app: new}}")
	successor := pod("a/successor", "here", "10.0.0.1", "app=new")
	successor.CreationTimestamp = meta.NewTime(time.Now())
	for _, pods := range [][]*v1.Pod{append(seen.pods, successor), append([]*v1.Pod{successor}, seen.pods...)} {
		seen.pods = pods
		result := decide("here", seen)
		if len(result.ingress.pods) != 1 || result.ingress.pods[0].name != "a/successor" || len(result.known) != 3 {
			t.Errorf("got %+v", result)
		}
	}
}

func TestANamedPortOfASidecarCountsThatOfAnInitContainerDoesNot(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	for _, restart := range []*v1.ContainerRestartPolicy{nil, &always} {
		seen := testCluster("podSelector: {matchLabels: {app: client}}\ningress: [{ports: [{port: side}]}]")
		seen.pods[2].Spec.InitContainers = []v1.Container{{
			RestartPolicy: restart, Ports: []v1.ContainerPort{{Name: "side", ContainerPort: 15}},
		}}
		got := said(decide("here", seen).ingress)
		if wanted := map[bool]string{true: "10.0.0.3: 0.0.0.0/0 TCP/15-15", false: "10.0.0.3: "}[restart != nil]; got != wanted {
			t.Errorf("got %q, wanted %q", got, wanted)
		}
	}
}

func TestTheOrderOfTheAnswerDoesNotMatter(t *testing.T) {
	policies := []string{"podSelector: {}\ningress: [{ports: [{port: 1}]}]", "podSelector: {}\ningress: [{ports: [{port: 2}]}]"}
	seen := testCluster(policies...)
	before := said(decide("here", seen).ingress)
	slices.Reverse(seen.pods)
	slices.Reverse(seen.policies)
	if after := said(decide("here", seen).ingress); after != before {
		t.Errorf("%s\nand then\n%s", before, after)
	}
}
