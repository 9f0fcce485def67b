//go:build tools

// Package tools names the program that is built from this module. It is told the version of Kubernetes that its
// client-go is of (build.py).
package tools

import _ "helm.sh/helm/v3/cmd/helm"
