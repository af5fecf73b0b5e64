// Makes or removes the folder of one volume: what local-path-provisioner runs on the node, in place of a shell script.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	path := flag.String("p", "", "the folder")
	action := flag.String("a", "", "create or delete")
	flag.Int64("s", 0, "size in bytes; a folder has no limit")
	flag.String("m", "Filesystem", "mode of the volume")
	flag.Parse()
	var err error
	switch *action {
	case "create":
		if err = os.MkdirAll(*path, 0o777); err == nil {
			err = os.Chmod(*path, 0o777) // whoever the pod runs as, and whatever the umask is
		}
	case "delete":
		err = os.RemoveAll(*path)
	default:
		err = fmt.Errorf("action %q: neither create nor delete", *action)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
