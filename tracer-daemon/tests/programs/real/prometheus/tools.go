//go:build tools

// Package prometheus pins the Prometheus that leakline is tried on: a real service, built from the module proxy by the
// ordinary Go client. tests/it/real builds it; README.md beside this folder has the commands.
package prometheus

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
