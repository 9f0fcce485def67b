module betting/hack/minicluster/forward

go 1.24.0
