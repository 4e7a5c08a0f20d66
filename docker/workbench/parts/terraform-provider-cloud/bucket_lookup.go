package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// bucketLookup is the data source cloud_bucket.
type bucketLookup struct {
	*clients
}

type bucketLookupModel struct {
	Name types.String `tfsdk:"name"`
	ARN  types.String `tfsdk:"arn"`
	Tags types.Map    `tfsdk:"tags"`
}

func (b *bucketLookup) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "cloud_bucket"
}

func (b *bucketLookup) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "A bucket that something else manages.",
		Attributes: map[string]schema.Attribute{
			"name": schema.StringAttribute{
				Required:   true,
				Validators: []validator.String{bucketName},
			},
			"arn":  schema.StringAttribute{Computed: true},
			"tags": schema.MapAttribute{Computed: true, ElementType: types.StringType},
		},
	}
}

func (b *bucketLookup) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	b.clients, _ = req.ProviderData.(*clients)
}

func (b *bucketLookup) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var found bucketLookupModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &found)...)
	if resp.Diagnostics.HasError() {
		return
	}
	name := found.Name.ValueString()
	_, err := b.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	var tags map[string]string
	if err == nil {
		tags, err = bucketTags(ctx, b.s3, name)
	}
	if isGone(err) {
		resp.Diagnostics.AddError(fmt.Sprintf("There is no bucket %s", name),
			"A data source only looks up what exists.\n\n"+
				"Correct the name, or create the bucket first, where it is managed.")
		return
	}
	if err != nil {
		report(&resp.Diagnostics, fmt.Sprintf("Bucket %s could not be looked up", name), err, "")
		return
	}
	found.ARN = types.StringValue(bucketARN(name))
	// Never null, so that a configuration can look into it without asking.
	value, diags := tagsValue(ctx, types.MapUnknown(types.StringType), tags)
	found.Tags = value
	resp.Diagnostics.Append(diags...)
	resp.Diagnostics.Append(resp.State.Set(ctx, found)...)
}
