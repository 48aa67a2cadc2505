// Package fakeredis answers as much of Redis's protocol as a client needs to connect and to get a value.
package fakeredis

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
)

// Serve answers every connection.
func Serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go answer(connection)
	}
}

func answer(connection net.Conn) {
	defer connection.Close()
	// As few bytes as possible: thousands of connections stay open.
	in := bufio.NewReaderSize(connection, 256)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		answer := "+OK\r\n"
		switch strings.ToUpper(words[0]) {
		case "HELLO":
			answer = "-ERR unknown command\r\n"
		case "PING":
			answer = "+PONG\r\n"
		case "GET":
			answer = "$5\r\nvalue\r\n"
		}
		if _, err := io.WriteString(connection, answer); err != nil {
			return
		}
	}
}

// An array of strings: `*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n`.
func readCommand(in *bufio.Reader) ([]string, error) {
	count, err := readLength(in, '*')
	if err != nil {
		return nil, err
	}
	words := make([]string, count)
	for i := range words {
		length, err := readLength(in, '$')
		if err != nil {
			return nil, err
		}
		word := make([]byte, length+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:length])
	}
	return words, nil
}

func readLength(in *bufio.Reader, kind byte) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	length, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, string(kind))))
	if err != nil || line[0] != kind || length < 1 || length > 1024 {
		return 0, io.ErrUnexpectedEOF
	}
	return length, nil
}
