// Command forward passes TCP connections on: forward FD=HOST:PORT[,HOST:PORT…] …
//
// FD is a listening socket that it inherits. The cluster opens it on the host and starts forward in the network
// namespace of the control plane: a connection is accepted there and continued here. Of several targets one is used
// until it cannot be connected to within a second; then the next one is, from there on. A connection to a target that
// has gone silent, such as a lost node, is reset after three seconds, as load balancers do, and one that an end has
// closed for its part is reset five seconds later: who waits for a process that hangs gives up again and again.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	silentMax      = 3 * time.Second
	halfClosedMax  = 5 * time.Second
	tcpUserTimeout = 0x12 // of linux/tcp.h
)

func main() {
	for _, argument := range os.Args[1:] {
		number, targets, found := strings.Cut(argument, "=")
		fd, err := strconv.Atoi(number)
		if !found || err != nil {
			log.Fatalf("wanted FD=HOST:PORT[,HOST:PORT...], not %q", argument)
		}
		listener, err := net.FileListener(os.NewFile(uintptr(fd), argument))
		if err != nil {
			log.Fatalf("%s: %v", argument, err)
		}
		go serve(listener, strings.Split(targets, ","))
	}
	select {}
}

func serve(listener net.Listener, targets []string) {
	var current atomic.Int64
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Printf("accept: %v", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go pass(client.(*net.TCPConn), targets, &current)
	}
}

func pass(client *net.TCPConn, targets []string, current *atomic.Int64) {
	defer client.Close()
	for range targets {
		index := current.Load()
		server, err := net.DialTimeout("tcp", targets[index], time.Second)
		if err != nil {
			log.Printf("%s: %v", targets[index], err)
			current.CompareAndSwap(index, (index+1)%int64(len(targets)))
			continue
		}
		defer server.Close()
		endWhenSilent(server.(*net.TCPConn))
		both(client, server.(*net.TCPConn))
		return
	}
	client.SetLinger(0) // nobody took it: the client sees a reset, not an orderly end
}

func endWhenSilent(server *net.TCPConn) {
	server.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2})
	raw, err := server.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(silentMax.Milliseconds()))
	})
}

func both(client, server *net.TCPConn) {
	var group sync.WaitGroup
	group.Add(2)
	copyTo := func(to, from *net.TCPConn) {
		defer group.Done()
		if _, err := io.Copy(to, from); err != nil { // a reset goes through as a reset
			to.SetLinger(0)
			to.Close()
			from.SetLinger(0)
			from.Close()
			return
		}
		to.CloseWrite()
		to.SetReadDeadline(time.Now().Add(halfClosedMax))
	}
	go copyTo(server, client)
	go copyTo(client, server)
	group.Wait()
}
