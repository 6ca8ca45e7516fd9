;; Wants sockets and a host function that is not ours.
(component
  (@custom "thimble:api-version" "0.1.0")
  (import "wasi:sockets/tcp@0.2.6" (instance))
  (import "wasi:cli/stdout@0.2.6" (instance))
  (import "acme:backdoor/open@1.0.0" (instance))
)
