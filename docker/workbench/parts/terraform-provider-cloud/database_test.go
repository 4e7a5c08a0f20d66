package main

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/aws/smithy-go"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

func TestOnlyShrinkingReplaces(t *testing.T) {
	for name, c := range map[string]struct {
		before, after types.Int64
		replaces      bool
		refused       bool
	}{
		"shrinks":         {before: types.Int64Value(100), after: types.Int64Value(50), replaces: true},
		"smallest change": {before: types.Int64Value(50), after: types.Int64Value(49), replaces: true},
		"grows":           {before: types.Int64Value(50), after: types.Int64Value(100)},
		"stays":           {before: types.Int64Value(50), after: types.Int64Value(50)},
		"just imported":   {before: types.Int64Null(), after: types.Int64Value(50)},
		"not known yet":   {before: types.Int64Value(50), after: types.Int64Unknown(), refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			there := tftypes.NewValue(tftypes.Object{}, map[string]tftypes.Value{})
			req := planmodifier.Int64Request{
				State: tfsdk.State{Raw: there}, StateValue: c.before,
				Plan: tfsdk.Plan{Raw: there}, PlanValue: c.after,
			}
			resp := planmodifier.Int64Response{PlanValue: c.after}
			replaceIfShrinks().PlanModifyInt64(context.Background(), req, &resp)
			if resp.RequiresReplace != c.replaces || resp.Diagnostics.HasError() != c.refused {
				t.Errorf("from %s to %s: replaces is %t, %v", c.before, c.after, resp.RequiresReplace, resp.Diagnostics)
			}
		})
	}
}

func TestOnlyWhatDiffersIsChanged(t *testing.T) {
	before := databaseModel{
		Identifier:         types.StringValue("orders"),
		StorageGB:          types.Int64Value(20),
		InstanceClass:      types.StringValue("db.t3.micro"),
		Password:           types.StringValue("first"),
		DeletionProtection: types.BoolValue(true),
	}
	if got := change(before, before); got != nil {
		t.Errorf("nothing differs, and it would change %+v", got)
	}
	after := before
	after.StorageGB = types.Int64Value(30)
	got := change(before, after)
	if got == nil || aws.ToInt32(got.AllocatedStorage) != 30 || !aws.ToBool(got.ApplyImmediately) {
		t.Fatalf("it grows, and would change %+v", got)
	}
	if got.DBInstanceClass != nil || got.MasterUserPassword != nil || got.DeletionProtection != nil {
		t.Errorf("only storage differs, and it would change %+v", got)
	}
	after = before
	after.DeletionProtection = types.BoolValue(false)
	got = change(before, after)
	if got == nil || got.DeletionProtection == nil || *got.DeletionProtection {
		t.Errorf("protection is lifted, and it would change %+v", got)
	}
}

func TestAPasswordIsSetButNeverTakenAway(t *testing.T) {
	none, one := databaseModel{Password: types.StringNull()}, databaseModel{Password: types.StringValue("secret")}
	if got := change(none, one); got == nil || aws.ToString(got.MasterUserPassword) != "secret" {
		t.Errorf("a password came, and it would change %+v", got)
	}
	if got := change(one, none); got != nil {
		t.Errorf("a password went, and it would change %+v", got)
	}
}

func TestTagChanges(t *testing.T) {
	set, removed := tagChanges(
		map[string]string{"owner": "ada", "stage": "test", "old": "x", "older": "y"},
		map[string]string{"owner": "ada", "stage": "live", "empty": ""},
	)
	slices.Sort(removed)
	if len(set) != 2 || set["stage"] != "live" || set["empty"] != "" {
		t.Errorf("it would set %v", set)
	}
	if !slices.Equal(removed, []string{"old", "older"}) {
		t.Errorf("it would remove %v", removed)
	}
}

func TestAnEndpointIsNullUntilThereIsOne(t *testing.T) {
	var m databaseModel
	m.located(&rdstypes.DBInstance{DBInstanceArn: aws.String("arn")})
	if !m.Endpoint.IsNull() || m.ARN.ValueString() != "arn" {
		t.Errorf("%s at %s", m.ARN, m.Endpoint)
	}
	m.located(&rdstypes.DBInstance{Endpoint: &rdstypes.Endpoint{Address: aws.String("db.test"), Port: aws.Int32(5432)}})
	if m.Endpoint.ValueString() != "db.test:5432" {
		t.Errorf("it is at %s", m.Endpoint)
	}
}

func TestProtectionIsToldFromOtherRefusals(t *testing.T) {
	refusal := func(message string) error {
		return &smithy.GenericAPIError{Code: "InvalidParameterCombination", Message: message}
	}
	if !isProtected(refusal("Cannot delete protected DB Instance, please disable deletion protection and try again.")) {
		t.Error("protection is not seen")
	}
	if isProtected(refusal("FinalDBSnapshotIdentifier is not allowed")) || isProtected(errors.New("deletion protection")) {
		t.Error("something else is taken for protection")
	}
}
