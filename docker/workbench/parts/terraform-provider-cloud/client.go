package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/transport/http"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
)

// clients are shared by all resources.
type clients struct {
	s3     *s3.Client
	rds    *rds.Client
	region string
}

// connect makes clients. It calls nothing: a key that is wrong shows in the first call.
func connect(s settings) *clients {
	config := aws.Config{
		Region:       s.region,
		BaseEndpoint: aws.String(s.endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(s.accessKey, s.secretKey, s.sessionToken),
		// Emulators do not know every checksum that the SDK would add by itself.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	return &clients{
		s3: s3.NewFromConfig(config, func(o *s3.Options) {
			// Only AWS itself has a host name for every bucket.
			o.UsePathStyle = true
		}),
		rds:    rds.NewFromConfig(config),
		region: s.region,
	}
}

// connected is what each resource embeds: the clients, as the provider's Configure made them.
type connected struct {
	*clients
}

func (c *connected) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	// There are none while a configuration is only validated.
	c.clients, _ = req.ProviderData.(*clients)
}

// report adds an error that says what could not be done, why, and what to do. With an empty next, what usually helps.
func report(diags *diag.Diagnostics, what string, err error, next string) {
	why, usual := explain(err)
	diags.AddError(what, why+"\n\n"+first(next, usual))
}

// explain returns the cause in the API's own words, without the SDK's, and what usually helps.
func explain(err error) (why, next string) {
	var answer smithy.APIError
	var network *net.OpError
	var response *http.ResponseError
	switch {
	case errors.As(err, &answer):
		reason := first(strings.TrimSuffix(answer.ErrorMessage(), "."), "no reason given")
		why = "The API refused: " + reason + " (" + answer.ErrorCode() + ")."
		switch answer.ErrorCode() {
		case "AccessDenied", "Forbidden", "ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId",
			"SignatureDoesNotMatch", "UnauthorizedOperation":
			return why, "Check the provider's keys, and what their owner is allowed to do."
		}
		return why, "Correct the configuration, or what stands in its way, and apply again."
	case errors.As(err, &network):
		return "The API does not answer: " + network.Error() + ".",
			"Check that it runs, and that the provider's endpoint is right."
	case errors.As(err, &response) && response.HTTPStatusCode() >= 500:
		return fmt.Sprintf("The API failed, with status %d and no reason.", response.HTTPStatusCode()),
			"Look into the API's log: the trouble is there."
	}
	return err.Error() + ".", "Check that the provider's endpoint is an AWS-compatible API."
}

// code returns the API's name for an error, or nothing if the error is not the API's.
func code(err error) string {
	var answer smithy.APIError
	if errors.As(err, &answer) {
		return answer.ErrorCode()
	}
	return ""
}

// isGone tells whether the API says that there is no such thing.
func isGone(err error) bool {
	switch code(err) {
	case "NotFound", "NoSuchBucket", "NoSuchKey", "DBInstanceNotFound", "DBInstanceNotFoundFault":
		return true
	}
	return false
}
