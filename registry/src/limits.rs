//! Every limit of the crate, with its default.

/// What a package or an index may have. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of a component file.
    pub package_bytes: usize,
    /// Size of the preset that a component carries, and so of a manifest.
    pub preset_bytes: usize,
    /// Imports and exports of a component, each.
    pub names: usize,
    /// Length of one import or export name, or of the API version.
    pub name_bytes: usize,
    /// Custom sections at the top of a component.
    pub sections: usize,
    /// Size of an index as JSON.
    pub index_bytes: usize,
    /// Packages in an index.
    pub packages: usize,
    /// Versions of one package.
    pub versions: usize,
    /// Hosts and streams that a release lists, each.
    pub listed: usize,
    /// Length of a release's docs.
    pub docs_bytes: usize,
    /// Length of a title, a host pattern, a stream name or a query.
    pub text_bytes: usize,
    /// Results of a search.
    pub results: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            package_bytes: 64 * 1024 * 1024,
            preset_bytes: 4 * 1024 * 1024,
            names: 1_000,
            name_bytes: 256,
            sections: 1_000,
            index_bytes: 64 * 1024 * 1024,
            packages: 100_000,
            versions: 1_000,
            listed: 10_000,
            docs_bytes: 64 * 1024,
            text_bytes: 1_024,
            results: 100,
        }
    }
}
