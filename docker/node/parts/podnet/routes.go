package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"sigs.k8s.io/knftables"
)

// protocol marks the routes that are ours, so that those of nodes which are gone can be told from others.
const protocol = 98

// route makes the routes to other nodes' pods what wanted says: from their addresses to the node that has them.
func route(wanted map[string]string) error {
	found, err := netlink.RouteListFiltered(
		netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	var failures []error
	for _, old := range found {
		if old.Dst == nil || wanted[old.Dst.String()] != old.Gw.String() {
			failures = append(failures, netlink.RouteDel(&old))
		}
	}
	for subnet, gateway := range wanted {
		_, destination, err := net.ParseCIDR(subnet)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if err := netlink.RouteReplace(&netlink.Route{
			Dst: destination, Gw: net.ParseIP(gateway), Protocol: protocol,
		}); err != nil {
			failures = append(failures, fmt.Errorf("route to %s through %s: %w", subnet, gateway, err))
		}
	}
	return errors.Join(failures...)
}

// masquerade gives what pods send out of the cluster the node's address. Between pods the sender stays who it is.
func masquerade(ctx context.Context, podSubnet string) error {
	nft, err := knftables.New(knftables.IPv4Family, "podnet")
	if err != nil {
		return err
	}
	transaction := nft.NewTransaction()
	transaction.Add(&knftables.Table{})
	chain := knftables.Chain{
		Name:     "leaving",
		Type:     knftables.PtrTo(knftables.NATType),
		Hook:     knftables.PtrTo(knftables.PostroutingHook),
		Priority: knftables.PtrTo(knftables.SNATPriority),
	}
	transaction.Add(&chain)
	transaction.Flush(&chain)
	transaction.Add(&knftables.Rule{
		Chain: chain.Name,
		Rule: knftables.Concat("ip saddr", podSubnet, "ip daddr !=", podSubnet,
			"fib daddr type != local", "masquerade"),
	})
	return nft.Run(ctx, transaction)
}
