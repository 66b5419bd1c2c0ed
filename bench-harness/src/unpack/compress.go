// Compresses standard input to standard output by Go's gzip, as Docker's and BuildKit's layers are.
package main

import (
	"compress/gzip"
	"io"
	"log"
	"os"
)

func main() {
	writer := gzip.NewWriter(os.Stdout)
	if _, err := io.Copy(writer, os.Stdin); err != nil {
		log.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		log.Fatal(err)
	}
}
