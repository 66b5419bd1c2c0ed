// Applies a tar archive from standard input to a directory, as containerd's overlayfs applier or, without parents,
// as its applier for plain directories does.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/archive"
)

func main() {
	var options []archive.ApplyOpt
	if os.Args[1] == "upper" {
		options = append(options, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(os.Args[3:]))
	}
	_, err := archive.Apply(context.Background(), filepath.Clean(os.Args[2]), os.Stdin, options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
