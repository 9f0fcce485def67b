module betting/hack/minicluster/probe

go 1.24.0
