"""Stores objects in the cloud, with a key that is read from a file as aws has it."""

import configparser
import hmac
import time
import urllib.request
from hashlib import sha256
from urllib.error import HTTPError

CLOUD, REGION = "cloud", "us-east-1"


def key_in(path):
    """Return id and secret of the key in a file."""
    settings = configparser.ConfigParser(interpolation=None)
    with open(path) as file:
        settings.read_file(file)
    return settings["default"]["aws_access_key_id"], settings["default"]["aws_secret_access_key"]


def store(key, bucket, name, text):
    """Store an object; return what the cloud refuses it with, nothing where it is stored.

    Where the cloud can't be reached, or has a trouble of its own, it is asked again.
    """
    while True:
        try:
            urllib.request.urlopen(_signed(key, f"/{bucket}/{name}", text.encode()), timeout=30).read()
        except HTTPError as error:
            if error.code < 500:
                return f"{error.code} {error.read().decode().partition('<Code>')[2].partition('<')[0]}"
        except OSError:
            pass
        else:
            return ""
        time.sleep(0.2)


def _signed(key, path, body):
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    at, digest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), sha256(body).hexdigest()
    headers = {"host": CLOUD, "x-amz-content-sha256": digest, "x-amz-date": at}
    names, scope = ";".join(headers), f"{at[:8]}/{REGION}/s3/aws4_request"
    request = "\n".join(["PUT", path, "", *(f"{name}:{value}" for name, value in headers.items()), "", names, digest])
    text = "\n".join(["AWS4-HMAC-SHA256", at, scope, sha256(request.encode()).hexdigest()])
    signature = f"AWS4{key[1]}".encode()
    for part in (*scope.split("/"), text):
        signature = hmac.new(signature, part.encode(), "sha256").digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key[0]}/{scope}, SignedHeaders={names}, Signature={signature.hex()}"
    )
    return urllib.request.Request(f"http://{CLOUD}{path}", body, headers, method="PUT")
