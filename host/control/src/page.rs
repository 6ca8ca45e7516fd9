//! Lists in pages. A page ends with the cursor of the next one, which the client hands back as it is.

use serde::{Deserialize, Serialize};
use thimble_store::MAX_PAGE;
use utoipa::{IntoParams, ToSchema};

use crate::limits::DEFAULT_PAGE;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// Items of a page, 1 to 1,000; 100 where absent.
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Which page of a list whose rows are numbered.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct NumberedParams {
    /// Items of a page, 1 to 1,000; 100 where absent.
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub cursor: Option<i64>,
}

/// Items of a page, within bounds.
pub(crate) fn page_size(limit: Option<u32>) -> u32 {
    limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE)
}

/// Cuts a page out of all items, which are in the order of their unique names.
pub(crate) fn cut<T>(items: Vec<T>, params: &PageParams, name: impl Fn(&T) -> &str) -> Page<T> {
    let after = params.cursor.as_deref().unwrap_or("");
    let size = page_size(params.limit) as usize;
    let mut rest = items.into_iter().filter(|item| name(item) > after);
    let items: Vec<T> = rest.by_ref().take(size).collect();
    let next = rest.next().and(items.last()).map(|last| name(last).to_owned());
    Page { items, next }
}

/// A page of items that were read with one more than asked for, to see whether there is a next page.
pub(crate) fn from_overfull<T>(mut items: Vec<T>, size: u32, cursor: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > size as usize;
    items.truncate(size as usize);
    let next = if more { items.last().map(cursor) } else { None };
    Page { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(limit: u32, cursor: Option<&str>) -> PageParams {
        PageParams { limit: Some(limit), cursor: cursor.map(str::to_owned) }
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let all = || vec!["a", "b", "c"];
        let first = cut(all(), &params(2, None), |item| item);
        assert_eq!((first.items, first.next.as_deref()), (vec!["a", "b"], Some("b")));
        let last = cut(all(), &params(2, Some("b")), |item| item);
        assert_eq!((last.items, last.next), (vec!["c"], None));
        let exact = cut(all(), &params(3, None), |item| item);
        assert_eq!((exact.items.len(), exact.next), (3, None));
    }

    #[test]
    fn sizes_stay_within_bounds() {
        assert_eq!([page_size(None), page_size(Some(0)), page_size(Some(u32::MAX))], [DEFAULT_PAGE, 1, MAX_PAGE]);
    }

    #[test]
    fn an_overfull_page_has_a_next_one() {
        let page = from_overfull(vec![1, 2, 3], 2, ToString::to_string);
        assert_eq!((page.items, page.next.as_deref()), (vec![1, 2], Some("2")));
        assert_eq!(from_overfull(vec![1, 2], 2, ToString::to_string).next, None);
    }
}
