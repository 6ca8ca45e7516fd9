;; Built for an API that does not exist yet.
(component (@custom "thimble:api-version" "0.2.0"))
