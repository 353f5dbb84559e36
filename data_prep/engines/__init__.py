"""Where the shards of a data set are worked on: processes of this machine, or a Ray cluster; resumable, equal bytes."""
