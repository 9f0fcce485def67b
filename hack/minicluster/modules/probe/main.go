// Command probe is the program in the pods that check the cluster.
//
//	probe serve :8080         answers every connection with the name of its host
//	probe dial HOST:PORT      connects within two seconds and prints the answer
//	probe lookup NAME         prints the addresses of a name
//	probe write FILE TEXT     writes a file
//	probe burn                uses a tenth of a processor
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch strings.Join(arguments[:min(1, len(arguments))], "") {
	case "serve":
		return serve(arguments[1])
	case "dial":
		connection, err := net.DialTimeout("tcp", arguments[1], 2*time.Second)
		if err != nil {
			return err
		}
		connection.SetDeadline(time.Now().Add(2 * time.Second))
		_, err = io.Copy(os.Stdout, connection)
		return err
	case "lookup":
		addresses, err := net.LookupHost(arguments[1])
		fmt.Println(strings.Join(addresses, " "))
		return err
	case "write":
		return os.WriteFile(arguments[1], []byte(arguments[2]), 0o644)
	case "burn":
		for {
			for began := time.Now(); time.Since(began) < 10*time.Millisecond; {
			}
			time.Sleep(90 * time.Millisecond)
		}
	}
	return fmt.Errorf("probe serve|dial|lookup|write|burn, not %q", arguments)
}

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	name, _ := os.Hostname()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(connection, name)
		connection.Close()
	}
}
