package main

import (
	"strings"
	"testing"
)

func TestSplitObjectID(t *testing.T) {
	for id, want := range map[string]struct {
		bucket, key string
		ok          bool
	}{
		"shop/index.html":       {"shop", "index.html", true},
		"shop/2026/a report/x=": {"shop", "2026/a report/x=", true},
		"shop//rooted":          {"shop", "/rooted", true},
		"shop/folder/":          {"shop", "folder/", true},
		"shop/":                 {ok: false},
		"/key":                  {ok: false},
		"shop":                  {ok: false},
		"":                      {ok: false},
	} {
		bucket, key, ok := splitObjectID(id)
		if ok != want.ok || ok && (bucket != want.bucket || key != want.key) {
			t.Errorf("%q is %q and %q, %t", id, bucket, key, ok)
		}
	}
}

func TestReadText(t *testing.T) {
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for name, c := range map[string]struct {
		body  string
		limit int64
		text  bool
	}{
		"text":           {"abc", 10, true},
		"just fits":      {"abc", 3, true},
		"does not fit":   {"abc", 2, false},
		"empty":          {"", 2, true},
		"not text":       {"\xff\xfe", 10, false},
		"other alphabet": {"źdźbło", 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			content, sum, err := readText(strings.NewReader(c.body), c.limit)
			if err != nil {
				t.Fatal(err)
			}
			if (content != nil) != c.text || content != nil && *content != c.body {
				t.Errorf("it is read as %v", content)
			}
			if c.body == "abc" && sum != abc {
				t.Errorf("its SHA-256 is %s", sum)
			}
		})
	}
}
