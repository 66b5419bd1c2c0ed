// Package conformance runs containerd's own snapshotter suite against a snapshotter behind a Unix socket.
//
// It is compiled with Debian's golang-github-containerd-containerd-dev (GOPATH mode) and run by tests/conformance.rs.
package conformance

import (
	"context"
	"os"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

// TestSuite runs every case of the suite against the server at SNAPSHOTTER_SOCKET, which must be empty at first.
func TestSuite(t *testing.T) {
	socket := os.Getenv("SNAPSHOTTER_SOCKET")
	if socket == "" {
		t.Fatal("SNAPSHOTTER_SOCKET is not set")
	}
	testsuite.SnapshotterSuite(t, "Parapull", func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		connection, err := grpc.Dial("unix://"+socket, grpc.WithInsecure())
		if err != nil {
			return nil, nil, err
		}
		snapshotter := proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(connection), "parapull")
		return snapshotter, connection.Close, nil
	})
}
