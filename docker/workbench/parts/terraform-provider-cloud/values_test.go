package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestNoTagsStayAsTheyWereWritten(t *testing.T) {
	null := types.MapNull(types.StringType)
	empty := types.MapValueMust(types.StringType, map[string]attr.Value{})
	one := types.MapValueMust(types.StringType, map[string]attr.Value{"owner": types.StringValue("ada")})
	for name, c := range map[string]struct {
		before types.Map
		found  map[string]string
		want   types.Map
	}{
		"null":             {null, nil, null},
		"empty":            {empty, nil, empty},
		"all taken away":   {one, nil, empty},
		"one came":         {null, map[string]string{"owner": "ada"}, one},
		"the cloud's own":  {null, map[string]string{"aws:stack": "x"}, null},
		"some are its own": {one, map[string]string{"aws:stack": "x", "owner": "ada"}, one},
	} {
		got, diags := tagsValue(context.Background(), c.before, c.found)
		if diags.HasError() || !got.Equal(c.want) {
			t.Errorf("%s: %s, %v", name, got, diags)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		rule    named
		name    string
		allowed bool
	}{
		{bucketName, "shop-assets.2026", true},
		{bucketName, "7up", true},
		{bucketName, "Shop", false},
		{bucketName, "ab", false},
		{bucketName, "shop-", false},
		{bucketName, strings.Repeat("a", 63), true},
		{bucketName, strings.Repeat("a", 64), false},
		{databaseName, "orders-2", true},
		{databaseName, "o", true},
		{databaseName, "Orders", false},
		{databaseName, "2orders", false},
		{databaseName, "orders--2", false},
		{databaseName, "orders-", false},
		{databaseName, strings.Repeat("a", 64), false},
	} {
		if c.rule.allows(c.name) != c.allowed {
			t.Errorf("%q: allowed is not %t", c.name, c.allowed)
		}
	}
}

func TestTheBlockComesBeforeTheEnvironment(t *testing.T) {
	environment := map[string]string{
		"AWS_ENDPOINT_URL": "http://moto:5000", "AWS_DEFAULT_REGION": "eu-north-1",
		"AWS_ACCESS_KEY_ID": "env-key", "AWS_SECRET_ACCESS_KEY": "env-secret", "AWS_SESSION_TOKEN": "env-token",
	}
	env := func(name string) string { return environment[name] }
	all := cloudModel{}.settings(env)
	if want := (settings{"http://moto:5000", "eu-north-1", "env-key", "env-secret", "env-token"}); all != want {
		t.Errorf("from the environment: %+v", all)
	}
	block := cloudModel{
		Endpoint: types.StringValue("http://here:1"), Region: types.StringValue("us-west-2"),
		AccessKey: types.StringValue("key"), SecretKey: types.StringValue("secret"),
	}
	if got, want := block.settings(env), (settings{"http://here:1", "us-west-2", "key", "secret", ""}); got != want {
		t.Errorf("from the block: %+v", got)
	}
	nothing := cloudModel{}.settings(func(string) string { return "" })
	if nothing.region != "us-east-1" {
		t.Errorf("the region is %q", nothing.region)
	}
	if diags := nothing.check(); len(diags.Errors()) != 3 {
		t.Errorf("endpoint and both keys are missing: %v", diags)
	}
}

func TestAnEndpointIsAURL(t *testing.T) {
	for text, want := range map[string]bool{
		"http://127.0.0.1:5000": true, "https://cloud.test": true,
		"127.0.0.1:5000": false, "cloud.test": false, "http://": false, "ftp://cloud.test": false,
	} {
		if isURL(text) != want {
			t.Errorf("%q: not %t", text, want)
		}
	}
}

// failure is an answer with a status and no error in it that could be read.
func failure(status int) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      errors.New("nothing to be read"),
	}
}

func TestErrorsAreExplained(t *testing.T) {
	for name, c := range map[string]struct {
		err       error
		why, next string
	}{
		"refused": {
			&smithy.GenericAPIError{Code: "InvalidBucketName", Message: "The name is not valid"},
			"The name is not valid (InvalidBucketName)", "configuration",
		},
		"no rights": {&smithy.GenericAPIError{Code: "AccessDenied"}, "no reason given (AccessDenied)", "keys"},
		"no answer": {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "connection refused", "endpoint"},
		"broken":    {failure(500), "status 500", "log"},
		"not there": {failure(404), "nothing to be read", "AWS-compatible"},
		"no API":    {errors.New("deserialization failed"), "deserialization failed", "AWS-compatible"},
	} {
		why, next := explain(c.err)
		if !strings.Contains(why, c.why) || !strings.Contains(next, c.next) {
			t.Errorf("%s: %s %s", name, why, next)
		}
	}
}
