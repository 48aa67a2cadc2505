// Package fakedb is a database for database/sql that answers every query with the same rows of customers.
package fakedb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
)

// Rows of each answer.
const Rows = 5

var columns = []string{"id", "name", "street", "city", "note"}

var errReadOnly = errors.New("read only")

// Open is sql.Open.
func Open() *sql.DB { return sql.OpenDB(connector{}) }

type connector struct{}

func (connector) Connect(context.Context) (driver.Conn, error) { return connection{}, nil }
func (connector) Driver() driver.Driver                        { return nil }

type connection struct{}

func (connection) Prepare(string) (driver.Stmt, error) { return statement{}, nil }
func (connection) Close() error                        { return nil }
func (connection) Begin() (driver.Tx, error)           { return nil, errReadOnly }

type statement struct{}

func (statement) Close() error                               { return nil }
func (statement) NumInput() int                              { return -1 }
func (statement) Exec([]driver.Value) (driver.Result, error) { return nil, errReadOnly }
func (statement) Query([]driver.Value) (driver.Rows, error)  { return &rows{}, nil }

type rows struct{ sent int }

func (*rows) Columns() []string { return columns }
func (*rows) Close() error      { return nil }

// Bytes, of which database/sql makes strings of its own.
var text = [...][]byte{
	[]byte("Erika Mustermann, the customer of every example"),
	[]byte("Heidestrasse 17, third floor, second door on the left"),
	[]byte("51147 Cologne on the Rhine"),
	make([]byte, 300),
}

func (r *rows) Next(into []driver.Value) error {
	if r.sent == Rows {
		return io.EOF
	}
	r.sent++
	into[0] = int64(r.sent)
	for i, value := range text {
		into[i+1] = value
	}
	return nil
}
