// SPDX-License-Identifier: GPL-3.0-or-later

package torrc

import "strings"

// Config is what counts of several sources.
type Config struct {
	values map[string][]Line
}

// Merge puts sources together, the one that counts most last: its values take
// the place of those before, but where a + says that they add to them. Within a
// source lists grow, and of other options the last line counts.
func Merge(sources ...[]Line) *Config {
	c := &Config{values: map[string][]Line{}}
	for _, source := range sources {
		own := map[string]bool{} // the lists of this source
		for _, l := range source {
			name := plainName(l.Key)
			switch {
			case l.Mode == Clear:
				delete(c.values, name)
			case l.Value == "":
				if !list(name) {
					delete(c.values, name)
				}
			case list(name) && (own[name] || l.Mode == Add):
				c.values[name] = append(c.values[name], l)
				own[name] = true
			default:
				c.values[name] = []Line{l}
				own[name] = true
			}
		}
	}
	return c
}

// list reports options of which all lines count.
func list(name string) bool {
	return strings.HasSuffix(name, "port") || name == "controlsocket" || name == "log"
}

// All are the lines of an option, by its plain name.
func (c *Config) All(name string) []Line { return c.values[strings.ToLower(name)] }

// Value is the value of an option, by its plain name, empty if it has none.
func (c *Config) Value(name string) string {
	all := c.All(name)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1].Value
}

// Bool reports an option that is 1.
func (c *Config) Bool(name string) bool { return c.Value(name) == "1" }
