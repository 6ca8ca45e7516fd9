//! Finding packages by what people type: a name, words of a title, a host.

use semver::Version;

use crate::index::{Index, Release};
use crate::limits::Limits;

/// A package that answers a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'a> {
    pub name: &'a str,
    /// Its newest version.
    pub version: &'a Version,
    pub release: &'a Release,
}

impl Index {
    /// Packages in which every word of the query occurs: in the name, the title, a permission's host or a
    /// stream. The best first: the name itself, then names, titles, hosts, streams. An empty query finds all.
    pub fn search(&self, query: &str, limits: &Limits) -> Vec<Found<'_>> {
        let end = query.floor_char_boundary(limits.text_bytes);
        let query = query[..end].trim().to_lowercase();
        let words: Vec<&str> = query.split_whitespace().collect();
        let mut ranked: Vec<(u8, Found<'_>)> = self
            .entries()
            .filter_map(|(name, entry)| {
                let (version, release) = entry.latest()?;
                let rank = if name == query { 0 } else { rank(name, release, &words)? };
                Some((rank, Found { name, version, release }))
            })
            .collect();
        // The entries come by name already, and the sort is stable.
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().take(limits.results).map(|(_, found)| found).collect()
    }
}

/// The worst place among the words, `None` where one is nowhere.
fn rank(name: &str, release: &Release, words: &[&str]) -> Option<u8> {
    let title = release.title.to_lowercase();
    let any = |texts: &[String], word: &str| texts.iter().any(|text| text.to_lowercase().contains(word));
    let place = |word: &str| {
        if name.starts_with(word) {
            Some(1)
        } else if name.contains(word) {
            Some(2)
        } else if title.contains(word) {
            Some(3)
        } else if any(&release.permissions.hosts, word) {
            Some(4)
        } else {
            any(&release.streams, word).then_some(5)
        }
    };
    words.iter().map(|word| place(word)).try_fold(1, |worst, place| Some(place?.max(worst)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::index::tests::release;

    fn index() -> Index {
        let (limits, mut index) = (Limits::default(), Index::default());
        for (name, title, hosts) in [
            ("github", "GitHub issues and pull requests", &["api.github.com"][..]),
            ("git-log", "Commits of a repository", &["*.git.example"]),
            ("helpdesk", "Tickets", &["{{ url }}", "files.github.io"]),
            ("weather", "Weather of the world", &[]),
        ] {
            index.add(name, Version::new(1, 0, 0), release(title, hosts), &limits).unwrap();
        }
        index
    }

    fn names(query: &str) -> Vec<String> {
        index().search(query, &Limits::default()).into_iter().map(|found| found.name.to_owned()).collect()
    }

    #[test]
    fn the_best_comes_first() {
        assert_eq!(names("github"), ["github", "helpdesk"]);
        assert_eq!(names("git"), ["git-log", "github", "helpdesk"]);
        assert_eq!(names("PULL requests"), ["github"]);
        assert_eq!(names("api.github.com"), ["github"]);
        assert_eq!(names("github tickets"), ["helpdesk"]);
        assert_eq!(names("weather nowhere"), Vec::<String>::new());
        assert_eq!(names("  "), ["git-log", "github", "helpdesk", "weather"]);
        assert_eq!(names("items").len(), 4);
    }

    #[test]
    fn results_and_queries_are_bounded() {
        let limits = Limits { results: 2, text_bytes: 4, ..Limits::default() };
        let index = index();
        assert_eq!(index.search("", &limits).len(), 2);
        // Cut to `weat`.
        assert_eq!(index.search("weatXXXX", &limits)[0].name, "weather");
        assert_eq!(index.search("wéaXXX", &limits).len(), 0);
    }
}
