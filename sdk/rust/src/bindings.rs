//! Code generated from `wit/v0.1`. Hidden from authors: everything they use is re-exported by hand.

#![allow(unsafe_code, missing_docs, clippy::all, unused)]

wit_bindgen::generate!({
    path: "../../wit/v0.1",
    world: "source-connector",
    ownership: Borrowing { duplicate_if_necessary: true },
    pub_export_macro: true,
    export_macro_name: "export_source",
});
