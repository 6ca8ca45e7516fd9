//! Helpers for cursors: keeping the greatest value seen.

/// Keeps the greatest of the values it is shown.
///
/// ```
/// let mut newest = thimble_sdk::cursor::Max::from(Some("2024-01-02".to_owned()));
/// newest.see("2024-01-01".to_owned());
/// newest.see("2024-03-01".to_owned());
/// assert_eq!(newest.get().map(String::as_str), Some("2024-03-01"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Max<T>(Option<T>);

impl<T> Default for Max<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Option<T>> for Max<T> {
    fn from(start: Option<T>) -> Self {
        Self(start)
    }
}

impl<T: PartialOrd> Max<T> {
    pub fn new() -> Self {
        Self(None)
    }

    /// Takes a value in. A value that compares with nothing (a NaN) is left out.
    pub fn see(&mut self, value: T) {
        let newer = match &self.0 {
            None => value.partial_cmp(&value).is_some(),
            Some(greatest) => value > *greatest,
        };
        if newer {
            self.0 = Some(value);
        }
    }

    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    pub fn into_inner(self) -> Option<T> {
        self.0
    }
}

/// The greatest of many, and nothing of none.
pub fn max_of<T: PartialOrd>(start: Option<T>, values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut max = Max::from(start);
    values.into_iter().for_each(|value| max.see(value));
    max.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_greatest_and_no_nan() {
        assert_eq!(max_of(Some(4), [1, 9, 3]), Some(9));
        assert_eq!(max_of(Some(4), [1]), Some(4));
        assert_eq!(max_of(None, [f64::NAN, 2.0, f64::NAN]), Some(2.0));
        assert_eq!(max_of::<u8>(None, []), None);
    }
}
