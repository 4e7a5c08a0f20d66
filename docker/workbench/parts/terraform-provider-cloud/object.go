package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// maxContent is how much of an object is kept in the state, which holds it as text.
const maxContent = 1 << 20

// mostAtOnce is how many objects one call may delete.
const mostAtOnce = 1000

// object is the resource cloud_object.
type object struct {
	connected
}

type objectModel struct {
	Bucket  types.String `tfsdk:"bucket"`
	Key     types.String `tfsdk:"key"`
	Content types.String `tfsdk:"content"`
	ETag    types.String `tfsdk:"etag"`
	SHA256  types.String `tfsdk:"sha256"`
}

func (o *object) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "cloud_object"
}

func (o *object) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		Description: "A text in a bucket. Imported by BUCKET/KEY.",
		Attributes: map[string]schema.Attribute{
			"bucket": schema.StringAttribute{
				Required:      true,
				Validators:    []validator.String{bucketName},
				PlanModifiers: replace,
			},
			"key": schema.StringAttribute{
				Required:      true,
				Description:   "What it is called in the bucket, often with slashes.",
				PlanModifiers: replace,
			},
			"content": schema.StringAttribute{Required: true},
			"etag": schema.StringAttribute{
				Computed:    true,
				Description: "What the API tells contents apart by.",
			},
			"sha256": schema.StringAttribute{
				Computed:    true,
				Description: "Of the content, as sha256sum prints it.",
			},
		},
	}
}

func (o *object) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan objectModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	what := fmt.Sprintf("Object %s could not be created", plan.id())
	// Only if there is none: what someone else wrote is not to be lost without a word.
	err := o.put(ctx, &plan, aws.String("*"))
	if code(err) == "PreconditionFailed" {
		resp.Diagnostics.AddError(what, fmt.Sprintf("There is an object of that key already, and this state does not "+
			"know it.\n\nImport it, with an import block whose id is %q, or choose another key.", plan.id()))
		return
	}
	if err != nil {
		report(&resp.Diagnostics, what, err, "")
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (o *object) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state objectModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	what := fmt.Sprintf("Object %s could not be read", state.id())
	output, err := o.s3.GetObject(ctx, &s3.GetObjectInput{
		Bucket: state.Bucket.ValueStringPointer(), Key: state.Key.ValueStringPointer(),
	})
	if isGone(err) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		report(&resp.Diagnostics, what, err, "")
		return
	}
	defer output.Body.Close()
	content, sum, err := readText(output.Body, maxContent)
	if err != nil {
		report(&resp.Diagnostics, what, err, "")
		return
	}
	if content == nil {
		resp.Diagnostics.AddWarning(fmt.Sprintf("Object %s holds no text that fits into a state", state.id()),
			fmt.Sprintf("Somebody else wrote it: its content is larger than %d bytes, or it is not UTF-8. It is taken "+
				"as unlike any content of a configuration.\n\nLook at it before you apply: that would replace it.", maxContent))
	}
	state.Content = types.StringPointerValue(content)
	state.ETag = etag(output.ETag)
	state.SHA256 = types.StringValue(sum)
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

func (o *object) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan objectModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := o.put(ctx, &plan, nil); err != nil {
		report(&resp.Diagnostics, fmt.Sprintf("Object %s could not be written", plan.id()), err, "")
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Delete removes the object with its versions: with only a mark on top of them, its bucket could not be destroyed.
func (o *object) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state objectModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	key := state.Key.ValueString()
	mine := func(other string) bool { return other == key }
	if err := deleteVersions(ctx, o.s3, state.Bucket.ValueString(), key, mine); err != nil && !isGone(err) {
		report(&resp.Diagnostics, fmt.Sprintf("Object %s could not be destroyed", state.id()), err, "")
	}
}

func (o *object) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	bucket, key, ok := splitObjectID(req.ID)
	if !ok {
		resp.Diagnostics.AddError("Not the id of an object", fmt.Sprintf("%q does not name a bucket and a key.\n\n"+
			"Write the id as BUCKET/KEY: what follows the first slash is the key.", req.ID))
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("bucket"), bucket)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("key"), key)...)
}

// put writes the content, and fills in what is known of it afterwards.
func (o *object) put(ctx context.Context, m *objectModel, ifNoneMatch *string) error {
	content := []byte(m.Content.ValueString())
	output, err := o.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      m.Bucket.ValueStringPointer(),
		Key:         m.Key.ValueStringPointer(),
		Body:        bytes.NewReader(content),
		IfNoneMatch: ifNoneMatch,
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	m.ETag = etag(output.ETag)
	m.SHA256 = types.StringValue(hex.EncodeToString(sum[:]))
	return nil
}

func (m objectModel) id() string { return m.Bucket.ValueString() + "/" + m.Key.ValueString() }

// splitObjectID tells a bucket from a key. Keys may hold slashes, even at their beginning; names of buckets do not.
func splitObjectID(id string) (bucket, key string, ok bool) {
	bucket, key, _ = strings.Cut(id, "/")
	return bucket, key, bucket != "" && key != ""
}

// readText returns what body holds and its SHA-256, but no content if that is longer than limit or is not text.
func readText(body io.Reader, limit int64) (content *string, sum string, err error) {
	hash := sha256.New()
	body = io.TeeReader(body, hash)
	begin, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, "", err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, "", err
	}
	if int64(len(begin)) <= limit && utf8.Valid(begin) {
		content = aws.String(string(begin))
	}
	return content, hex.EncodeToString(hash.Sum(nil)), nil
}

// etag is without the quotes that are only there because it travels in a header.
func etag(quoted *string) types.String {
	return types.StringValue(strings.Trim(aws.ToString(quoted), `"`))
}

// deleteVersions removes all versions and marks of deletion of the objects whose key begins with prefix and is wanted.
// It looks for all of them first: not every emulator can go on with a list after its last entry was removed.
func deleteVersions(ctx context.Context, client *s3.Client, bucket, prefix string, wanted func(key string) bool) error {
	var doomed []s3types.ObjectIdentifier
	add := func(key, version *string) {
		if wanted(aws.ToString(key)) {
			doomed = append(doomed, s3types.ObjectIdentifier{Key: key, VersionId: version})
		}
	}
	pages := s3.NewListObjectVersionsPaginator(client, &s3.ListObjectVersionsInput{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, one := range page.Versions {
			add(one.Key, one.VersionId)
		}
		for _, one := range page.DeleteMarkers {
			add(one.Key, one.VersionId)
		}
	}
	for batch := range slices.Chunk(doomed, mostAtOnce) {
		output, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &bucket, Delete: &s3types.Delete{Objects: batch, Quiet: aws.Bool(true)},
		})
		if err != nil {
			return err
		}
		if len(output.Errors) > 0 {
			failed := output.Errors[0]
			return fmt.Errorf("%d objects could not be deleted, the first of them %s: %s",
				len(output.Errors), aws.ToString(failed.Key), aws.ToString(failed.Message))
		}
	}
	return nil
}
