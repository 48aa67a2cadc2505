// 5,000 workers that live as long as the program and take turns at 2,000 jobs a second. Innocent.
package main

import "example.com/leakline/programs/zoo/truth"

type job struct {
	answer chan<- int
	body   [256]byte
}

func work(jobs <-chan *job) {
	for one := range jobs {
		one.answer <- len(one.body)
	}
}

func main() {
	run := truth.Start("workers")
	jobs, answer := make(chan *job), make(chan int, 1)
	for i := 0; i < 5000; i++ {
		go work(jobs)
	}
	run.Garbage(4<<20, 512, 4096)
	run.Ready()
	run.Pace(2000, func() {
		jobs <- &job{answer: answer}
		<-answer
	})
}
