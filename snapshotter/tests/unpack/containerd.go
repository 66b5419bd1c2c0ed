// Applies tar archives to directories, as containerd's overlayfs applier or, at the bottom, as its applier for plain
// directories does. Each line of the input is one order: the archive, the directory and the lower layers, the topmost
// first, separated by tabs; without a lower layer the directory is the bottom. Each answer is a line: "ok", or why not.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/containerd/archive"
)

func main() {
	// As the service has it, whatever a test does to its own.
	syscall.Umask(0o022)
	orders := bufio.NewScanner(os.Stdin)
	orders.Buffer(nil, 1<<20)
	for orders.Scan() {
		answer := "ok"
		if err := apply(strings.Split(orders.Text(), "\t")); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
}

func apply(order []string) error {
	layer, err := os.Open(order[0])
	if err != nil {
		return err
	}
	defer layer.Close()
	var options []archive.ApplyOpt
	if lowers := order[2:]; len(lowers) > 0 {
		options = append(options, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(lowers))
	}
	_, err = archive.Apply(context.Background(), filepath.Clean(order[1]), bufio.NewReader(layer), options...)
	return err
}
