"""Studies: long measurements that describe the suite itself; not part of `make test`."""
