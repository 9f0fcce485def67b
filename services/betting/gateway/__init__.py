"""The api-gateway: gRPC-Web and Connect for browsers and curl, authentication, rate limits, routing to the owners."""
