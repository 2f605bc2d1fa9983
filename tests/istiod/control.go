package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
)

// control serves HTTP on a socket: the body of each request is YAML documents.
//
//	POST /apply   these objects are so now
//	POST /delete  these are gone
func (c *cluster) control(socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	handle := func(do func([]byte) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if why := recover(); why != nil {
					http.Error(w, fmt.Sprint(why), http.StatusInternalServerError)
				}
			}()
			body, err := io.ReadAll(r.Body)
			if err == nil {
				err = do(body)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		}
	}
	mux.HandleFunc("POST /apply", handle(c.apply))
	mux.HandleFunc("POST /delete", handle(c.remove))
	go func() { _ = http.Serve(listener, mux) }()
	return nil
}

func newLines(text []byte) *bufio.Reader {
	return bufio.NewReader(bytes.NewReader(text))
}
