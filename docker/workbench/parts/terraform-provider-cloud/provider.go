package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// cloud is the provider.
type cloud struct {
	version string
}

// cloudModel is the provider's block, with nulls for what is left to the environment.
type cloudModel struct {
	Endpoint  types.String `tfsdk:"endpoint"`
	Region    types.String `tfsdk:"region"`
	AccessKey types.String `tfsdk:"access_key"`
	SecretKey types.String `tfsdk:"secret_key"`
}

// settings are what the clients are made of.
type settings struct {
	endpoint, region                   string
	accessKey, secretKey, sessionToken string
}

func (c *cloud) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "cloud"
	resp.Version = c.version
}

func (c *cloud) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "Buckets, objects and databases of an AWS-compatible API.",
		Attributes: map[string]schema.Attribute{
			"endpoint": schema.StringAttribute{
				Optional:    true,
				Description: "URL of the API, for all its services. Default: AWS_ENDPOINT_URL.",
			},
			"region": schema.StringAttribute{
				Optional:    true,
				Description: "Default: AWS_REGION, then AWS_DEFAULT_REGION, then us-east-1.",
			},
			"access_key": schema.StringAttribute{
				Optional:    true,
				Description: "Default: AWS_ACCESS_KEY_ID, together with AWS_SESSION_TOKEN if there is one.",
			},
			"secret_key": schema.StringAttribute{
				Optional:    true,
				Sensitive:   true,
				Description: "Default: AWS_SECRET_ACCESS_KEY.",
			},
		},
	}
}

func (c *cloud) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var given cloudModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &given)...)
	if resp.Diagnostics.HasError() {
		return
	}
	found := given.settings(os.Getenv)
	resp.Diagnostics.Append(given.unknown()...)
	if !resp.Diagnostics.HasError() {
		resp.Diagnostics.Append(found.check()...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	made := connect(found)
	resp.ResourceData = made
	resp.DataSourceData = made
}

func (c *cloud) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		func() resource.Resource { return &bucket{} },
		func() resource.Resource { return &object{} },
		func() resource.Resource { return &database{} },
	}
}

func (c *cloud) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{
		func() datasource.DataSource { return &bucketLookup{} },
	}
}

// settings fills what the block leaves out from the environment.
func (m cloudModel) settings(env func(string) string) settings {
	found := settings{
		endpoint:  first(m.Endpoint.ValueString(), env("AWS_ENDPOINT_URL")),
		region:    first(m.Region.ValueString(), env("AWS_REGION"), env("AWS_DEFAULT_REGION"), "us-east-1"),
		accessKey: first(m.AccessKey.ValueString(), env("AWS_ACCESS_KEY_ID")),
		secretKey: first(m.SecretKey.ValueString(), env("AWS_SECRET_ACCESS_KEY")),
	}
	// A token belongs to the key beside which it stands: one of the environment is wrong for a key of the block.
	if m.AccessKey.ValueString() == "" {
		found.sessionToken = env("AWS_SESSION_TOKEN")
	}
	return found
}

// unknown complains about values that only exist once something else is applied: without them nothing can be read, so
// nothing can be planned.
func (m cloudModel) unknown() (diags diag.Diagnostics) {
	for name, value := range map[string]types.String{
		"endpoint": m.Endpoint, "region": m.Region, "access_key": m.AccessKey, "secret_key": m.SecretKey,
	} {
		if value.IsUnknown() {
			diags.AddAttributeError(path.Root(name), fmt.Sprintf("The provider's %s is not known yet", name),
				"It comes from something that has not been applied, and without it the API can't be asked for "+
					"what there is.\n\nApply that first, with -target, or write the value down.")
		}
	}
	return diags
}

// check complains here and once about what each call would fail for.
func (s settings) check() (diags diag.Diagnostics) {
	if s.endpoint == "" {
		diags.AddAttributeError(path.Root("endpoint"), "No endpoint",
			"The provider has no endpoint and AWS_ENDPOINT_URL is not set, so it can't know which API to speak to.\n\n"+
				"Set endpoint in the block provider \"cloud\", or AWS_ENDPOINT_URL in the environment, to the URL of the API.")
	} else if !isURL(s.endpoint) {
		diags.AddAttributeError(path.Root("endpoint"), "The endpoint is not a URL",
			fmt.Sprintf("%q does not say how the API is reached.\n\n"+
				"Write it with scheme and host, such as http://127.0.0.1:5000.", s.endpoint))
	}
	for _, key := range []struct{ name, value, variable string }{
		{"access_key", s.accessKey, "AWS_ACCESS_KEY_ID"},
		{"secret_key", s.secretKey, "AWS_SECRET_ACCESS_KEY"},
	} {
		if key.value == "" {
			diags.AddAttributeError(path.Root(key.name), "No "+key.name,
				fmt.Sprintf("The provider has no %s and %s is not set, so no call can be signed.\n\n"+
					"Set one of them.", key.name, key.variable))
		}
	}
	return diags
}

func isURL(text string) bool {
	at, err := url.Parse(text)
	return err == nil && at.Host != "" && (at.Scheme == "http" || at.Scheme == "https")
}

// first returns the first of values that is not empty.
func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
