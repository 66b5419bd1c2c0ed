// Package conformance runs the snapshotter suite of containerd 2 against a snapshotter behind a Unix socket.
//
// The module's checksums pin the suite; tests/conformance.rs compiles and runs it.
package conformance

import (
	"context"
	"os"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestSuite runs every case of the suite against the server at SNAPSHOTTER_SOCKET, which must be empty at first.
//
// The suite knows the name "overlayfs": what such mounts cannot do by the kernel's own rules (renaming a directory of a
// lower layer) it asks of nobody who uses them.
func TestSuite(t *testing.T) {
	socket := os.Getenv("SNAPSHOTTER_SOCKET")
	if socket == "" {
		t.Fatal("SNAPSHOTTER_SOCKET is not set")
	}
	testsuite.SnapshotterSuite(t, "overlayfs", func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		credentials := grpc.WithTransportCredentials(insecure.NewCredentials())
		connection, err := grpc.NewClient("unix://"+socket, credentials)
		if err != nil {
			return nil, nil, err
		}
		snapshotter := proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(connection), "parapull")
		return snapshotter, connection.Close, nil
	})
}
