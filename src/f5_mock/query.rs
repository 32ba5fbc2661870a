//! Query options of a collection (`$top`, `$skip`, `$select`, `$filter`), and the page that they select.

use serde_json::{Value, json};

use crate::names;
use crate::reply::{Refusal, self_link};

/// The options that iControl REST has for collections. Others, such as `ver` and `expandSubcollections`, change nothing
/// here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    top: Option<usize>,
    skip: Option<usize>,
    select: Option<Vec<String>>,
    /// The one filter that iControl REST has for configuration: `partition eq NAME`.
    partition: Option<String>,
}

impl Query {
    /// Parses the part of a URL after its question mark.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (names::decode(name), names::decode(&value.replace('+', " ")));
            let wrong = || Refusal::bad(format!("the query option {name}={value} is not valid"));
            match name.as_str() {
                "$top" => query.top = Some(value.parse().ok().filter(|top| *top > 0).ok_or_else(wrong)?),
                "$skip" => query.skip = Some(value.parse().map_err(|_| wrong())?),
                "$select" => query.select = Some(value.split(',').map(|field| field.trim().to_owned()).collect()),
                "$filter" => {
                    let words: Vec<&str> = value.split_whitespace().collect();
                    let ["partition", "eq", partition] = words[..] else { return Err(wrong()) };
                    query.partition = Some(partition.trim_matches('\'').to_owned());
                }
                _ => {}
            }
        }
        Ok(query)
    }

    /// Returns the page of `items` that the options select; `path` is that of the collection.
    pub fn page(&self, kind: &str, path: &str, items: Vec<Value>) -> Value {
        let wanted = |item: &Value| self.partition.as_ref().is_none_or(|partition| item["partition"] == **partition);
        let items: Vec<Value> = items.into_iter().filter(wanted).collect();
        let (total, skip) = (items.len(), self.skip.unwrap_or(0));
        let top = self.top.unwrap_or(total.max(1));
        let page: Vec<Value> = items.into_iter().skip(skip).take(top).map(|item| self.fields_of(item)).collect();
        let mut collection = json!({"kind": kind, "selfLink": self_link(path)});
        if self.top.is_some() || self.skip.is_some() {
            collection["currentItemCount"] = page.len().into();
            collection["itemsPerPage"] = top.into();
            collection["pageIndex"] = (skip / top + 1).into();
            collection["startIndex"] = (skip + 1).into();
            collection["totalItems"] = total.into();
            collection["totalPages"] = total.div_ceil(top).into();
            if skip.saturating_add(top) < total {
                let next = format!("{}&$top={top}&$skip={}", self_link(path), skip + top);
                collection["nextLink"] = next.into();
            }
        }
        collection["items"] = page.into();
        collection
    }

    /// Returns the selected fields of an item.
    fn fields_of(&self, item: Value) -> Value {
        match (&self.select, item) {
            (Some(select), Value::Object(fields)) => {
                fields.into_iter().filter(|(name, _)| select.contains(name)).collect::<serde_json::Map<_, _>>().into()
            }
            (_, item) => item,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(options: &str) -> Value {
        let item = |(name, partition)| json!({"name": name, "partition": partition, "cert": "c"});
        let items = [("a", "Common"), ("b", "Common"), ("c", "Other")].map(item);
        Query::parse(options).unwrap().page("kind", "/mgmt/tm/x", items.into())
    }

    #[test]
    fn query_options_select_items_and_fields() {
        let names = |page: Value| -> Vec<String> {
            page["items"].as_array().unwrap().iter().map(|item| item["name"].to_string()).collect()
        };
        assert_eq!(names(page("ver=17.1.1&expandSubcollections=true")), [r#""a""#, r#""b""#, r#""c""#]);
        assert_eq!(names(page("$filter=partition%20eq%20Other")), [r#""c""#]);
        assert_eq!(names(page("%24filter=partition+eq+Common&%24top=1&%24skip=1")), [r#""b""#]);
        assert_eq!(page("$select=name,cert")["items"][0], json!({"name": "a", "cert": "c"}));
        let first = page("$top=2");
        assert_eq!((&first["totalItems"], &first["totalPages"]), (&json!(3), &json!(2)));
        assert!(first["nextLink"].as_str().unwrap().ends_with("$top=2&$skip=2"), "{first}");
        assert_eq!(page("$top=2&$skip=2").get("nextLink"), None);
        assert_eq!(names(page("$skip=9")), Vec::<String>::new());
    }

    #[test]
    fn invalid_query_options_are_refused() {
        for text in ["$top=x", "$top=0", "$skip=-1", "$filter=name eq a"] {
            Query::parse(text).unwrap_err();
        }
    }
}
