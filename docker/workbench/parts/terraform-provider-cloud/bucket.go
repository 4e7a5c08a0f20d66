package main

import (
	"context"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// bucket is the resource cloud_bucket.
type bucket struct {
	connected
}

type bucketModel struct {
	Name         types.String `tfsdk:"name"`
	Tags         types.Map    `tfsdk:"tags"`
	Versioning   types.Bool   `tfsdk:"versioning"`
	ForceDestroy types.Bool   `tfsdk:"force_destroy"`
	ARN          types.String `tfsdk:"arn"`
}

var bucketName = named{
	regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+[a-z0-9]$`),
	"3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends",
}

func (b *bucket) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "cloud_bucket"
}

func (b *bucket) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "A bucket for objects. Imported by its name.",
		Attributes: map[string]schema.Attribute{
			"name": schema.StringAttribute{
				Required:      true,
				Description:   "Unique in the whole cloud. Another name is another bucket.",
				Validators:    []validator.String{bucketName},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"tags": tagsAttribute(),
			"versioning": schema.BoolAttribute{
				Optional:    true,
				Computed:    true,
				Default:     booldefault.StaticBool(false),
				Description: "Whether older versions of objects are kept.",
			},
			"force_destroy": schema.BoolAttribute{
				Optional:    true,
				Computed:    true,
				Default:     booldefault.StaticBool(false),
				Description: "Whether the bucket is destroyed with all that is in it. It has to be applied before that.",
			},
			"arn": schema.StringAttribute{
				Computed:      true,
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			},
		},
	}
}

func (b *bucket) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan bucketModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	tags, diags := tagsIn(ctx, plan.Tags)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := plan.Name.ValueString()
	what := fmt.Sprintf("Bucket %s could not be created", name)
	// In us-east-1 the API lets one's own bucket be created once more, and two configurations would fight over it.
	_, err := b.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	if err == nil {
		resp.Diagnostics.AddError(what, fmt.Sprintf("There is a bucket of that name already, and this state does not "+
			"know it.\n\nImport it, with an import block whose id is %q, or choose another name.", name))
		return
	}
	if !isGone(err) {
		report(&resp.Diagnostics, what, err, "")
		return
	}
	input := &s3.CreateBucketInput{Bucket: &name}
	if b.region != "us-east-1" { // which is meant when none is given, and must not be
		input.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{
			LocationConstraint: s3types.BucketLocationConstraint(b.region),
		}
	}
	if _, err := b.s3.CreateBucket(ctx, input); err != nil {
		report(&resp.Diagnostics, what, err, "")
		return
	}
	// Now there is one: it has to be in the state whatever happens to the rest.
	plan.ARN = types.StringValue(bucketARN(name))
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
	if plan.Versioning.ValueBool() {
		if err := b.setVersioning(ctx, name, true); err != nil {
			report(&resp.Diagnostics, fmt.Sprintf("Versioning of bucket %s could not be set", name), err, "")
		}
	}
	if len(tags) > 0 {
		if err := b.setTags(ctx, name, tags); err != nil {
			report(&resp.Diagnostics, fmt.Sprintf("Tags of bucket %s could not be set", name), err, "")
		}
	}
}

func (b *bucket) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state bucketModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := state.Name.ValueString()
	versioning, err := b.s3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &name})
	var tags map[string]string
	if err == nil {
		tags, err = bucketTags(ctx, b.s3, name)
	}
	if isGone(err) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		report(&resp.Diagnostics, fmt.Sprintf("Bucket %s could not be read", name), err, "")
		return
	}
	state.ARN = types.StringValue(bucketARN(name))
	state.Versioning = types.BoolValue(versioning.Status == s3types.BucketVersioningStatusEnabled)
	state.ForceDestroy = orFalse(state.ForceDestroy)
	value, diags := tagsValue(ctx, state.Tags, tags)
	state.Tags = value
	resp.Diagnostics.Append(diags...)
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

func (b *bucket) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var state, plan bucketModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	tags, diags := tagsIn(ctx, plan.Tags)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := plan.Name.ValueString()
	if !plan.Versioning.Equal(state.Versioning) {
		if err := b.setVersioning(ctx, name, plan.Versioning.ValueBool()); err != nil {
			report(&resp.Diagnostics, fmt.Sprintf("Versioning of bucket %s could not be set", name), err, "")
			return
		}
	}
	if !plan.Tags.Equal(state.Tags) {
		if err := b.setTags(ctx, name, tags); err != nil {
			report(&resp.Diagnostics, fmt.Sprintf("Tags of bucket %s could not be set", name), err, "")
			return
		}
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (b *bucket) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state bucketModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := state.Name.ValueString()
	var err error
	if state.ForceDestroy.ValueBool() {
		err = deleteVersions(ctx, b.s3, name, "", func(string) bool { return true })
	}
	if err == nil {
		_, err = b.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
	}
	if err == nil || isGone(err) {
		return
	}
	next := ""
	if code(err) == "BucketNotEmpty" {
		next = "Empty it first. Or set force_destroy = true and apply that: then all that is in it is destroyed as well."
	}
	report(&resp.Diagnostics, fmt.Sprintf("Bucket %s could not be destroyed", name), err, next)
}

func (b *bucket) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("name"), req, resp)
}

// setVersioning can't bring a bucket back to where it never had versions: the API only knows how to suspend them.
func (b *bucket) setVersioning(ctx context.Context, name string, on bool) error {
	status := s3types.BucketVersioningStatusSuspended
	if on {
		status = s3types.BucketVersioningStatusEnabled
	}
	_, err := b.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket:                  &name,
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: status},
	})
	return err
}

// setTags replaces all of them.
func (b *bucket) setTags(ctx context.Context, name string, tags map[string]string) error {
	if len(tags) == 0 {
		_, err := b.s3.DeleteBucketTagging(ctx, &s3.DeleteBucketTaggingInput{Bucket: &name})
		return err
	}
	set := make([]s3types.Tag, 0, len(tags))
	for key, value := range tags {
		set = append(set, s3types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	_, err := b.s3.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{
		Bucket: &name, Tagging: &s3types.Tagging{TagSet: set},
	})
	return err
}

// bucketTags returns a bucket's tags. For the API, having none is an error.
func bucketTags(ctx context.Context, client *s3.Client, name string) (map[string]string, error) {
	output, err := client.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &name})
	if code(err) == "NoSuchTagSet" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, tag := range output.TagSet {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return tags, nil
}

func bucketARN(name string) string { return "arn:aws:s3:::" + name }
