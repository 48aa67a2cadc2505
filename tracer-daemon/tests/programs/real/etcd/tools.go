//go:build tools

// Package etcd pins the etcd server that leakline is tried on: a real service, built from the module proxy by the
// ordinary Go client. tests/it/real builds it; README.md beside this folder has the commands.
package etcd

import _ "go.etcd.io/etcd/server/v3"
