module betting/hack/minicluster/pause

go 1.24.0
