;; Imports a function of ours with a type that is not ours, and exports an empty source.
(component
  (@custom "thimble:api-version" "0.1.0")
  (import "thimble:connector/log@0.1.0" (instance (export "write" (func (param "message" u32)))))
  (instance $source)
  (export "thimble:connector/source@0.1.0" (instance $source))
)
