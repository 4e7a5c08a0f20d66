package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// tagsAttribute is the same for all that has tags.
func tagsAttribute() schema.Attribute {
	return schema.MapAttribute{
		ElementType: types.StringType,
		Optional:    true,
		Description: "All its tags: others that are found on it are removed.",
		Validators:  []validator.Map{withoutNulls{}},
	}
}

// tagsIn returns the tags that value holds; none for null.
func tagsIn(ctx context.Context, value types.Map) (map[string]string, diag.Diagnostics) {
	tags := map[string]string{}
	return tags, value.ElementsAs(ctx, &tags, false)
}

// tagsValue returns tags that were found as a value for the state, where before is what it was. The API does not tell
// having no tags from having an empty map of them, but a plan does: what was null stays null.
func tagsValue(ctx context.Context, before types.Map, found map[string]string) (types.Map, diag.Diagnostics) {
	mine := map[string]string{}
	for key, value := range found {
		// These are the cloud's own, and nobody else can set or remove them.
		if !strings.HasPrefix(key, "aws:") {
			mine[key] = value
		}
	}
	if len(mine) == 0 && before.IsNull() {
		return types.MapNull(types.StringType), nil
	}
	return types.MapValueFrom(ctx, types.StringType, mine)
}

// orFalse is for what has a default and is read from nowhere: after an import it would be null, and a plan not empty.
func orFalse(value types.Bool) types.Bool {
	return types.BoolValue(value.ValueBool())
}

// withoutNulls refuses maps that hold a null: no tag can have that value.
type withoutNulls struct{}

func (withoutNulls) Description(context.Context) string { return "every value is set" }

func (v withoutNulls) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (withoutNulls) ValidateMap(_ context.Context, req validator.MapRequest, resp *validator.MapResponse) {
	for key, value := range req.ConfigValue.Elements() {
		if value.IsNull() {
			resp.Diagnostics.AddAttributeError(req.Path.AtMapKey(key), "A tag without a value",
				fmt.Sprintf("The tag %q is null, and there is no such tag.\n\n"+
					"Give it a value, which may be empty, or leave it out.", key))
		}
	}
}

// longestName is the same for buckets and for databases.
const longestName = 63

// named refuses names that the API would refuse, or change: a plan is a better place to learn that than an apply.
type named struct {
	pattern *regexp.Regexp
	rule    string
}

func (n named) Description(context.Context) string { return n.rule }

func (n named) MarkdownDescription(context.Context) string { return n.rule }

func (n named) allows(name string) bool {
	return len(name) <= longestName && n.pattern.MatchString(name)
}

func (n named) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	value := req.ConfigValue
	if value.IsNull() || value.IsUnknown() || n.allows(value.ValueString()) {
		return
	}
	resp.Diagnostics.AddAttributeError(req.Path, "Not a valid name",
		fmt.Sprintf("%q can't be used as %s.\n\nUse %s.", value.ValueString(), req.Path, n.rule))
}

// between refuses numbers outside of its limits, which both are allowed.
type between struct {
	least, most int64
}

func (b between) Description(context.Context) string {
	return fmt.Sprintf("from %d to %d", b.least, b.most)
}

func (b between) MarkdownDescription(ctx context.Context) string { return b.Description(ctx) }

func (b between) ValidateInt64(ctx context.Context, req validator.Int64Request, resp *validator.Int64Response) {
	value := req.ConfigValue
	if value.IsNull() || value.IsUnknown() || b.least <= value.ValueInt64() && value.ValueInt64() <= b.most {
		return
	}
	resp.Diagnostics.AddAttributeError(req.Path, "Out of range",
		fmt.Sprintf("%s can't be %d.\n\nUse a number %s.", req.Path, value.ValueInt64(), b.Description(ctx)))
}
