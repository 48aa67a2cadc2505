//go:build tools

// Package prometheus pins the Prometheus that leakline is tried on: a real service, built from the module proxy by the
// ordinary Go client. `cargo xtask real-programs` (or README.md beside this file) has the commands.
package prometheus

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
