// Pages of rows read by gorm.io/gorm and kept in a cache without end: 120 KB/s. The database behind database/sql answers from memory.
package main

import (
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/utils/tests"

	"example.com/leakline/programs/zoo/truth"
	"example.com/leakline/programs/zoo/truth/fakedb"
)

type customer struct {
	ID                       int64
	Name, Street, City, Note string
}

type pages struct {
	next *pages
	page *[]customer
}

var cache *pages

func read(db *gorm.DB) *[]customer {
	page := new([]customer)                                            //site:rows
	if err := db.Where("city = ?", "x").Find(page).Error; err != nil { //site:rows
		panic(err)
	}
	if len(*page) != fakedb.Rows {
		panic("rows are missing")
	}
	return page
}

func main() {
	run := truth.Start("gorm")
	rows := run.Heap("rows")
	db, err := gorm.Open(tests.DummyDialector{}, &gorm.Config{
		ConnPool: fakedb.Open(), Logger: logger.Discard, DisableAutomaticPing: true,
	})
	if err != nil {
		panic(err)
	}
	each := truth.Measured(200, func() any { return read(db) })
	run.Garbage(4<<20, 2304, 9472)
	run.Ready()
	run.Pace(each.PerSecond(120e3), func() {
		cache = &pages{cache, read(db)} //also:rows
		rows.Add(1, each)
	})
}
