package main

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// patience is how long a database may take to become available, or to be gone.
const patience = 30 * time.Minute

// database is the resource cloud_database.
type database struct {
	connected
}

type databaseModel struct {
	Identifier         types.String `tfsdk:"identifier"`
	Engine             types.String `tfsdk:"engine"`
	StorageGB          types.Int64  `tfsdk:"storage_gb"`
	InstanceClass      types.String `tfsdk:"instance_class"`
	Username           types.String `tfsdk:"username"`
	Password           types.String `tfsdk:"password"`
	DeletionProtection types.Bool   `tfsdk:"deletion_protection"`
	Tags               types.Map    `tfsdk:"tags"`
	ARN                types.String `tfsdk:"arn"`
	Endpoint           types.String `tfsdk:"endpoint"`
}

// databaseName has no capitals: the API takes them, but answers with small letters, and a plan would never be empty.
var databaseName = named{
	regexp.MustCompile(`^[a-z](-?[a-z0-9])*$`),
	"up to 63 lower-case letters, digits and single hyphens, beginning with a letter and not ending with a hyphen",
}

func (d *database) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "cloud_database"
}

func (d *database) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	keep := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	resp.Schema = schema.Schema{
		Description: "A database of the managed service (RDS). Imported by its identifier. " +
			"It is destroyed without a last snapshot.",
		Attributes: map[string]schema.Attribute{
			"identifier": schema.StringAttribute{
				Required:      true,
				Description:   "Another identifier is another database.",
				Validators:    []validator.String{databaseName},
				PlanModifiers: replace,
			},
			"engine": schema.StringAttribute{
				Required:      true,
				Description:   "Such as postgres. Another engine is another database.",
				PlanModifiers: replace,
			},
			"storage_gb": schema.Int64Attribute{
				Required:      true,
				Description:   "May grow while the database runs. With less than it has, it is another database.",
				Validators:    []validator.Int64{between{5, 65536}},
				PlanModifiers: []planmodifier.Int64{replaceIfShrinks()},
			},
			"instance_class": schema.StringAttribute{
				Required:    true,
				Description: "Such as db.t3.micro.",
			},
			"username": schema.StringAttribute{
				Required:      true,
				Description:   "Of the database's administrator. Another one is another database.",
				PlanModifiers: replace,
			},
			"password": schema.StringAttribute{
				Optional:  true,
				Sensitive: true,
				Description: "Of the database's administrator. The API never tells it, so a change that someone else " +
					"made is not seen.",
			},
			"deletion_protection": schema.BoolAttribute{
				Optional:    true,
				Computed:    true,
				Default:     booldefault.StaticBool(false),
				Description: "Whether the API refuses to destroy it. Turning it off has to be applied before that.",
			},
			"tags": tagsAttribute(),
			"arn": schema.StringAttribute{
				Computed:      true,
				PlanModifiers: keep,
			},
			"endpoint": schema.StringAttribute{
				Computed:      true,
				Description:   "HOST:PORT where it listens.",
				PlanModifiers: keep,
			},
		},
	}
}

func (d *database) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan databaseModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	tags, diags := tagsIn(ctx, plan.Tags)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := plan.Identifier.ValueString()
	what := fmt.Sprintf("Database %s could not be created", name)
	created, err := d.rds.CreateDBInstance(ctx, &rds.CreateDBInstanceInput{
		DBInstanceIdentifier: &name,
		Engine:               plan.Engine.ValueStringPointer(),
		AllocatedStorage:     aws.Int32(int32(plan.StorageGB.ValueInt64())),
		DBInstanceClass:      plan.InstanceClass.ValueStringPointer(),
		MasterUsername:       plan.Username.ValueStringPointer(),
		MasterUserPassword:   plan.Password.ValueStringPointer(),
		DeletionProtection:   plan.DeletionProtection.ValueBoolPointer(),
		Tags:                 rdsTags(tags),
	})
	if err != nil {
		next := ""
		if code(err) == "DBInstanceAlreadyExists" {
			next = fmt.Sprintf("Import it, with an import block whose id is %q, or choose another identifier.", name)
		}
		report(&resp.Diagnostics, what, err, next)
		return
	}
	// Now there is one: it has to be in the state even if it never becomes available.
	plan.located(created.DBInstance)
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
	found, err := d.available(ctx, name)
	if err != nil {
		report(&resp.Diagnostics, fmt.Sprintf("Database %s does not become available", name), err, "")
		return
	}
	plan.located(found)
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (d *database) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state databaseModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := state.Identifier.ValueString()
	output, err := d.rds.DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: &name})
	if isGone(err) || err == nil && len(output.DBInstances) == 0 {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		report(&resp.Diagnostics, fmt.Sprintf("Database %s could not be read", name), err, "")
		return
	}
	found := output.DBInstances[0]
	state.Identifier = types.StringPointerValue(found.DBInstanceIdentifier)
	state.Engine = types.StringPointerValue(found.Engine)
	state.StorageGB = types.Int64Value(int64(aws.ToInt32(found.AllocatedStorage)))
	state.InstanceClass = types.StringPointerValue(found.DBInstanceClass)
	state.Username = types.StringPointerValue(found.MasterUsername)
	state.DeletionProtection = types.BoolValue(aws.ToBool(found.DeletionProtection))
	state.located(&found)
	tags := map[string]string{}
	for _, tag := range found.TagList {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	value, diags := tagsValue(ctx, state.Tags, tags)
	state.Tags = value
	resp.Diagnostics.Append(diags...)
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

func (d *database) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var state, plan databaseModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	before, diags := tagsIn(ctx, state.Tags)
	resp.Diagnostics.Append(diags...)
	after, diags := tagsIn(ctx, plan.Tags)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := plan.Identifier.ValueString()
	what := fmt.Sprintf("Database %s could not be changed", name)
	if change := change(state, plan); change != nil {
		if _, err := d.rds.ModifyDBInstance(ctx, change); err != nil {
			report(&resp.Diagnostics, what, err, "")
			return
		}
	}
	if err := d.setTags(ctx, state.ARN.ValueString(), before, after); err != nil {
		report(&resp.Diagnostics, fmt.Sprintf("Tags of database %s could not be set", name), err, "")
		return
	}
	if _, err := d.available(ctx, name); err != nil {
		report(&resp.Diagnostics, fmt.Sprintf("Database %s does not become available again", name), err, "")
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Delete asks the API even where the state says that the database is protected: only the API knows what is so now.
func (d *database) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state databaseModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := state.Identifier.ValueString()
	_, err := d.rds.DeleteDBInstance(ctx, &rds.DeleteDBInstanceInput{
		DBInstanceIdentifier: &name, SkipFinalSnapshot: aws.Bool(true),
	})
	if err == nil {
		waiter := rds.NewDBInstanceDeletedWaiter(d.rds, func(o *rds.DBInstanceDeletedWaiterOptions) {
			o.MinDelay, o.MaxDelay = time.Second, 15*time.Second
		})
		err = waiter.Wait(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: &name}, patience)
	}
	if err == nil || isGone(err) {
		return
	}
	next := ""
	if isProtected(err) {
		next = "If it really has to go, with all its data: set deletion_protection = false, apply that, and only " +
			"then destroy or replace it."
	}
	report(&resp.Diagnostics, fmt.Sprintf("Database %s could not be destroyed", name), err, next)
}

func (d *database) ImportState(
	ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse,
) {
	resource.ImportStatePassthroughID(ctx, path.Root("identifier"), req, resp)
}

// available waits until the database is, and returns it as it is then.
func (d *database) available(ctx context.Context, name string) (*rdstypes.DBInstance, error) {
	waiter := rds.NewDBInstanceAvailableWaiter(d.rds, func(o *rds.DBInstanceAvailableWaiterOptions) {
		// The SDK's half a minute is for databases that take many; an emulator's is there at once.
		o.MinDelay, o.MaxDelay = time.Second, 15*time.Second
	})
	output, err := waiter.WaitForOutput(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: &name}, patience)
	if err != nil {
		return nil, err
	}
	return &output.DBInstances[0], nil
}

// setTags leaves alone what is on the database and in neither of the two.
func (d *database) setTags(ctx context.Context, arn string, before, after map[string]string) error {
	set, removed := tagChanges(before, after)
	if len(removed) > 0 {
		_, err := d.rds.RemoveTagsFromResource(ctx, &rds.RemoveTagsFromResourceInput{ResourceName: &arn, TagKeys: removed})
		if err != nil {
			return err
		}
	}
	if len(set) > 0 {
		_, err := d.rds.AddTagsToResource(ctx, &rds.AddTagsToResourceInput{ResourceName: &arn, Tags: rdsTags(set)})
		return err
	}
	return nil
}

// located fills in what the API chose. The endpoint only exists once the database is available.
func (m *databaseModel) located(found *rdstypes.DBInstance) {
	m.ARN = types.StringPointerValue(found.DBInstanceArn)
	m.Endpoint = types.StringNull()
	if at := found.Endpoint; at != nil && at.Address != nil {
		m.Endpoint = types.StringValue(net.JoinHostPort(*at.Address, strconv.Itoa(int(aws.ToInt32(at.Port)))))
	}
}

// change returns what makes after of before, or nil if nothing but tags differs. It is not put off to the maintenance
// window: whoever applies expects it to be so afterwards.
func change(before, after databaseModel) *rds.ModifyDBInstanceInput {
	input := rds.ModifyDBInstanceInput{
		DBInstanceIdentifier: after.Identifier.ValueStringPointer(),
		ApplyImmediately:     aws.Bool(true),
	}
	changed := false
	if !after.StorageGB.Equal(before.StorageGB) {
		input.AllocatedStorage = aws.Int32(int32(after.StorageGB.ValueInt64()))
		changed = true
	}
	if !after.InstanceClass.Equal(before.InstanceClass) {
		input.DBInstanceClass = after.InstanceClass.ValueStringPointer()
		changed = true
	}
	// A password that is no longer in the configuration stays what it is: a database always has one.
	if !after.Password.Equal(before.Password) && !after.Password.IsNull() {
		input.MasterUserPassword = after.Password.ValueStringPointer()
		changed = true
	}
	if !after.DeletionProtection.Equal(before.DeletionProtection) {
		input.DeletionProtection = after.DeletionProtection.ValueBoolPointer()
		changed = true
	}
	if !changed {
		return nil
	}
	return &input
}

// replaceIfShrinks is the rule of the API that makes a small change of a number a dangerous one: storage only grows.
//
// A size that is not known yet is refused. The plan could not say whether it destroys the database, and once OpenTofu
// learned the size while it applies, it would take a replacement that was not planned for an error in the provider.
func replaceIfShrinks() planmodifier.Int64 {
	rule := "Less storage than it has makes it another database."
	return int64planmodifier.RequiresReplaceIf(
		func(_ context.Context, req planmodifier.Int64Request, resp *int64planmodifier.RequiresReplaceIfFuncResponse) {
			if req.PlanValue.IsUnknown() {
				resp.Diagnostics.AddAttributeError(req.Path, "The size of an existing database is not known yet",
					"It comes from something that has not been applied, and with less storage than now the database would "+
						"be destroyed and made anew. A plan has to say that.\n\n"+
						"Apply first what the size comes from, with -target, or write the number down.")
				return
			}
			resp.RequiresReplace = shrinks(req.StateValue, req.PlanValue)
		}, rule, rule)
}

func shrinks(before, after types.Int64) bool {
	return !before.IsNull() && !after.IsNull() && after.ValueInt64() < before.ValueInt64()
}

// isProtected tells a refusal for deletion protection from others, which the API gives the same code.
func isProtected(err error) bool {
	return code(err) == "InvalidParameterCombination" && strings.Contains(err.Error(), "deletion protection")
}

// tagChanges returns which tags to set, and the keys of those to remove, to come from before to after.
func tagChanges(before, after map[string]string) (set map[string]string, removed []string) {
	set = map[string]string{}
	for key, value := range after {
		if old, ok := before[key]; !ok || old != value {
			set[key] = value
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			removed = append(removed, key)
		}
	}
	return set, removed
}

func rdsTags(tags map[string]string) []rdstypes.Tag {
	list := make([]rdstypes.Tag, 0, len(tags))
	for key, value := range tags {
		list = append(list, rdstypes.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	return list
}
