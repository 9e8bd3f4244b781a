//! What the documentation shows is what these tests run.

use voxray_testkit::browser::scripts;
use voxray_testkit::servers::tools::workspace_root;

#[test]
fn every_snippet_that_runs_here_is_in_the_documentation_as_it_is() {
    let page = std::fs::read_to_string(workspace_root().join("docs/connect-your-client.md")).unwrap();
    let mut snippets = 0;
    for entry in std::fs::read_dir(scripts().join("snippets")).unwrap() {
        let path = entry.unwrap().path();
        let snippet = std::fs::read_to_string(&path).unwrap();
        let shown = page.contains(&format!("```js\n{snippet}```\n"));
        assert!(
            shown,
            "docs/connect-your-client.md does not show {} as it is",
            path.display()
        );
        snippets += 1;
    }
    assert!(snippets >= 3, "{snippets}");
}
