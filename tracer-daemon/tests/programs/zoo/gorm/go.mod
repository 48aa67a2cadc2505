module example.com/leakline/programs/zoo/gorm

go 1.21

require (
	example.com/leakline/programs/zoo/truth v0.0.0
	gorm.io/gorm v1.31.2
)

require (
	github.com/jinzhu/inflection v1.0.0 // indirect
	github.com/jinzhu/now v1.1.5 // indirect
	golang.org/x/text v0.20.0 // indirect
)

replace example.com/leakline/programs/zoo/truth => ../truth
