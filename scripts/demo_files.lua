--- demo_files.lua: what the demo looks at beside the code: a page with a link to a picture.
---
---   nvim --clean -l demo_files.lua FOLDER

local top = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h:h')
package.path = top .. '/tests/e2e/?.lua;' .. package.path

local folder = _G.arg[1]
require('draw').circle(folder .. '/circle.png', { 220, 30, 30 })
vim.fn.writefile({ '# Notes', '', 'The logo: ![logo](circle.png)', '' }, folder .. '/notes.md')
