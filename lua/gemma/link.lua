--- link.lua: the link under the cursor, in the markup languages that people keep pictures in.
---
--- Pure: lines and a position in, a target as written out; resolve() says which paths that can
--- mean. Looks at a few lines around the cursor, because a tag or the text of a link may go over
--- several. Reads nothing from the disk.

local M = {}

local LONGEST = 1024 -- bytes of one link; a limit on odd text, not on paths

local WINDOW = 8192 -- bytes that are looked at

M.AROUND = 20 -- lines above and below that are looked at

---@class (exact) gemma.Link
---@field target string as written, without quotes and escapes
---@field first integer 1-based line where the link begins
---@field last integer
---@field base string? folder that the document names for its pictures
---@field extensions string[]? to try when the target has none

---@class gemma.link.Found
---@field from integer first byte in the text
---@field to integer last byte
---@field target string
---@field picture boolean? it shows a picture, so it wins over a link around it
---@field extensions string[]?

---@alias gemma.link.Finder fun(text: string, add: fun(f: gemma.link.Found))

--- Text between angle brackets, or up to a blank; balanced round brackets are part of it.
---@param text string
---@param at integer first byte after the "("
---@return string? target
---@return integer? last byte before what follows
local function destination(text, at)
  at = text:match('^%s*()', at)
  local inside, stop = text:match('^<([^<>\n]*)>()', at)
  if inside then
    return inside, stop - 1
  end
  local depth, i = 0, at
  while true do
    i = text:find('[\\()%s%c]', i) or #text + 1
    local c = text:sub(i, i)
    if c == '(' then
      depth = depth + 1
    elseif c == ')' and depth > 0 then
      depth = depth - 1
    elseif c ~= '\\' then
      break
    end
    i = i + (c == '\\' and 2 or 1)
    if i > at + LONGEST then
      return nil
    end
  end
  if i == at then
    return nil
  end
  return text:sub(at, i - 1):gsub('\\(%p)', '%1'), i - 1
end

--- For each "[" the "]" that closes it, in one pass. A link does not go over an empty line.
---@param text string
---@return table<integer, integer>
local function closing(text)
  local close, stack = {}, {}
  local at = 1
  while true do
    local i = text:find('[%[%]\\\n]', at)
    if not i then
      return close
    end
    local c = text:sub(i, i)
    at = i + 1
    if c == '\\' then
      at = i + 2
    elseif c == '[' then
      stack[#stack + 1] = i
    elseif c == ']' then
      local open = table.remove(stack)
      if open then
        close[open] = i
      end
    elseif text:match('^[ \t]*\n', at) then
      stack = {}
    end
  end
end

---@param label string
---@return string as labels are compared
local function fold(label)
  return (label:lower():gsub('%s+', ' '))
end

--- Definitions of references: [label]: target "title"
---@param text string
---@return table<string, string>
local function references(text)
  local out = {}
  for label, rest in ('\n' .. text):gmatch('\n[ \t]*%[([^%[%]\n]+)%]:[ \t]*([^\n]+)') do
    out[fold(label)] = rest:match('^<([^>]*)>') or rest:match('^%S+')
  end
  return out
end

---@type gemma.link.Finder
local function find_html(text, add)
  local at = 1
  while true do
    local from, to, name = text:find('<(%a[%w-]*)[^<>]*>', at)
    if not from then
      return
    end
    local tag = text:sub(from, to)
    name = name:lower()
    local best
    for _, key in ipairs(name == 'a' and { 'href' } or { 'src', 'href', 'xlink:href', 'data' }) do
      local pat = '[%s"\']'
        .. key:gsub('%a', function(c)
          return '[' .. c .. c:upper() .. ']'
        end)
        .. '%s*=%s*'
      local _, eq = tag:find(pat)
      if eq then
        best = tag:match('^"([^"]*)"', eq + 1)
          or tag:match("^'([^']*)'", eq + 1)
          or tag:match('^[^%s"\'>]+', eq + 1)
        break
      end
    end
    if best then
      best = best:gsub('&amp;', '&'):gsub('&quot;', '"'):gsub('&#39;', "'")
      add({ from = from, to = to, target = vim.trim(best), picture = name ~= 'a' })
    end
    at = to + 1
  end
end

---@type gemma.link.Finder
local function find_markdown(text, add)
  -- ![[picture.png|300]], as note takers write it
  for from, inside, to in text:gmatch('()!?%[%[([^%[%]\n]+)%]%]()') do
    add({ from = from, to = to - 1, target = inside:match('^[^|#]+') or inside, picture = true })
  end
  local refs = references(text)
  for open, close in pairs(closing(text)) do
    local shows = text:sub(open - 1, open - 1) == '!'
    local after = text:sub(close + 1, close + 1)
    if after == '(' then
      local target, last = destination(text, close + 2)
      local stop = target and text:find(')', last --[[@as integer]] + 1, true)
      if target and stop then
        local more = text:sub(last + 1, stop - 1)
        if more:find('%S') and not more:find('^%s+["\'(]') then
          -- Blanks without escapes: CommonMark sees no link there, Pandoc and the author do.
          target = vim.trim(text:sub(close + 2, stop - 1):gsub('%s+["\'].*$', ''))
        end
        local from = shows and open - 1 or open
        add({ from = from, to = stop, target = target, picture = shows })
      end
    elseif after ~= ':' then
      local label, stop = text:match('^%s?%[([^%[%]]*)%]()', close + 1)
      if not label or label == '' then
        label, stop = text:sub(open + 1, close - 1), stop or close + 1
      end
      local target = refs[fold(label)]
      if target then
        local from = shows and open - 1 or open
        add({ from = from, to = stop - 1, target = target, picture = shows })
      end
    else
      local line = text:match('^[^\n]*', open)
      local target = refs[fold(text:sub(open + 1, close - 1))]
      if target then
        add({ from = open, to = open + #line - 1, target = target })
      end
    end
  end
  find_html(text, add)
end

---@type gemma.link.Finder
local function find_org(text, add)
  for from, target, to in text:gmatch('()%[%[([^%[%]\n]+)%]%]()') do
    add({ from = from, to = to - 1, target = target:match('^(.-)::') or target, picture = true })
  end
  for from, target, desc, to in text:gmatch('()%[%[([^%[%]\n]+)%]%[([^%[%]]*)%]%]()') do
    if not desc:find('\n\n', 1, true) then
      add({ from = from, to = to - 1, target = target:match('^(.-)::') or target })
    end
  end
  for from, target, to in text:gmatch('()(file:[^%s%[%]]+)()') do
    add({ from = from, to = to - 1, target = target })
  end
end

local TEX = { '', 'png', 'jpg', 'jpeg', 'webp', 'gif', 'bmp' }

---@type gemma.link.Finder
local function find_latex(text, add)
  for from, name, rest in text:gmatch('()\\(%a+)%*?()') do
    local lower = name:lower()
    if lower:find('includegraphics') or lower:find('includesvg') or lower == 'adjustimage' then
      -- Options in square brackets, each of which may hold braces.
      local near = text:sub(rest, rest + LONGEST)
      local at = 1
      local behind = near:match('^%s*%b[]()', at)
      while behind do
        at = behind
        behind = near:match('^%s*%b[]()', at)
      end
      at = lower == 'adjustimage' and near:match('^%s*%b{}()', at) or at
      local inside, stop = near:match('^%s*(%b{})()', at)
      if inside then
        local target = vim.trim(inside:sub(2, -2):gsub('%%[^\n]*\n%s*', ''))
        target = target:gsub('^"(.*)"$', '%1'):gsub('^{(.*)}', '%1')
        local to = rest + stop - 2
        add({ from = from, to = to, target = target, picture = true, extensions = TEX })
      end
    end
  end
end

---@type gemma.link.Finder
local function find_asciidoc(text, add)
  for from, macro, target, to in text:gmatch('()(%a+)::?([^%s:%[%]][^%[%]\n]*)%[[^%[%]\n]*%]()') do
    local shows = macro == 'image' or macro == 'video' or macro == 'audio'
    if shows or macro == 'link' or macro == 'xref' then
      add({ from = from, to = to - 1, target = target, picture = shows })
    end
  end
end

---@type gemma.link.Finder
local function find_rst(text, add)
  for at, line in text:gmatch('()([^\n]+)') do
    local dots = line:find('%.%.[ \t]')
    for _, name in ipairs(dots and { 'image::', 'figure::' } or {}) do
      -- Plain: a pattern that may begin anywhere in the line takes minutes for a line made for it.
      local first, last = line:find(name, dots + 3, true)
      local target = last and line:match('^[ \t]+(.+)', last + 1)
      if target and not line:find('^%a', first - 1) then
        local to = at + #line - 1
        add({ from = at + dots - 1, to = to, target = vim.trim(target), picture = true })
      end
    end
  end
end

---@type table<string, gemma.link.Finder>
local FINDERS = {
  markdown = find_markdown,
  html = find_html,
  org = find_org,
  tex = find_latex,
  asciidoc = find_asciidoc,
  rst = find_rst,
}
-- stylua: ignore
local LIKE = {
  rmd = 'markdown', quarto = 'markdown', mdx = 'markdown', ['markdown.mdx'] = 'markdown',
  vimwiki = 'markdown', telekasten = 'markdown', mail = 'markdown', gitcommit = 'markdown',
  xhtml = 'html', xml = 'html', svg = 'html', vue = 'html', svelte = 'html', astro = 'html',
  htmldjango = 'html', eruby = 'html', php = 'html', heex = 'html', templ = 'html',
  javascriptreact = 'html', typescriptreact = 'html', plaintex = 'tex', latex = 'tex',
  context = 'tex', asciidoctor = 'asciidoc', adoc = 'asciidoc',
}
for ft, like in pairs(LIKE) do
  FINDERS[ft] = FINDERS[like]
end

--- Any language: a quoted string, or a word, that looks like the name of a picture or recording.
---@param text string
---@param from integer first byte of the line
---@param to integer
---@param cursor integer
---@param add fun(f: gemma.link.Found)
local function find_words(text, from, to, cursor, add)
  local looks_like = require('gemma.media').looks_like
  local line = text:sub(from, to)
  local at = cursor - from + 1
  for _, q in ipairs({ '"', "'", '`' }) do
    for a, inside, b in line:gmatch(('()%s([^%s]+)%s()'):format(q, q, q)) do
      if a <= at and at < b and looks_like(inside) then
        return add({ from = from + a - 1, to = from + b - 2, target = inside })
      end
    end
  end
  for a, word, b in line:gmatch('()([^%s"\'`<>|()%[%]{},;=]+)()') do
    word = word:gsub('[.:]+$', '')
    if looks_like(word) then
      add({ from = from + a - 1, to = from + b - 2, target = word })
    end
  end
end

--- The folder that an AsciiDoc or LaTeX document names for its pictures.
---@param lines string[]
---@param ft string
---@return string?
local function picture_folder(lines, ft)
  for _, l in ipairs(lines) do
    local dir
    if FINDERS[ft] == find_asciidoc then
      dir = l:match('^:imagesdir:%s*(.-)%s*$')
    elseif FINDERS[ft] == find_latex then
      dir = l:match('^[^%%]*\\graphicspath%s*{%s*{([^}]*)}')
    else
      return nil
    end
    if dir and dir ~= '' then
      return dir
    end
  end
end

--- The lines around the cursor, as one text.
---@class gemma.link.Around
---@field text string
---@field lo integer first of the lines, of all
---@field hi integer last
---@field starts table<integer, integer> line: where it begins in the text
---@field from integer first byte of the cursor's line
---@field to integer last
---@field cursor integer its byte

---@param lines string[]
---@param row integer
---@param col integer
---@return gemma.link.Around
local function around(lines, row, col)
  local lo, hi = math.max(1, row - M.AROUND), math.min(#lines, row + M.AROUND)
  local starts, at = {}, 1
  for i = lo, hi do
    starts[i] = at
    at = at + #lines[i] + 1
  end
  local text = table.concat(lines, '\n', lo, hi)
  local from, to = starts[row], starts[row] + #lines[row] - 1
  local cursor = from + math.min(col, math.max(0, #lines[row] - 1))
  if #text > WINDOW then
    -- A huge line: what is far from the cursor is not under it.
    local cut = math.max(0, cursor - WINDOW / 2)
    text = text:sub(cut + 1, cut + WINDOW)
    cursor = cursor - cut
    from, to = math.max(1, from - cut), math.min(#text, to - cut)
    for i = lo, hi do
      starts[i] = starts[i] - cut
    end
  end
  return { text = text, lo = lo, hi = hi, starts = starts, from = from, to = to, cursor = cursor }
end

--- Definitions of references, which stand anywhere, mostly at the end of a document.
---@param lines string[]
---@param lo integer lines that are left out, from here
---@param hi integer to here
---@return string
local function definitions(lines, lo, hi)
  local defs = {}
  for i, line in ipairs(lines) do
    if (i < lo or i > hi) and line:match('^%s*%[[^%]]+%]:') then
      defs[#defs + 1] = line
    end
  end
  return table.concat(defs, '\n')
end

--- Whether `a` says better than `b` what the cursor is on.
---@param a gemma.link.Found
---@param b gemma.link.Found
---@return boolean?
local function better(a, b)
  if (a.picture or false) ~= (b.picture or false) then
    return a.picture
  end
  return a.to - a.from < b.to - b.from
end

--- The best of what is under the cursor, or the only picture in its line.
---@param w gemma.link.Around
---@param finder gemma.link.Finder?
---@param text string that of w, and definitions behind it
---@return gemma.link.Found?
local function pick(w, finder, text)
  local under, picture, n_pictures = nil, nil, 0
  local function add(f)
    if f.target == '' or f.to < w.from or f.from > w.to then
      return
    elseif f.from <= w.cursor and w.cursor <= f.to then
      if not under or better(f, under) then
        under = f
      end
    elseif f.picture then
      picture, n_pictures = f, n_pictures + 1
    end
  end
  if finder then
    finder(text, add)
  end
  if not under then
    find_words(text, w.from, w.to, w.cursor, add)
  end
  return under or (n_pictures == 1 and picture or nil)
end

--- The link under the cursor, or the only one in the cursor's line that shows a picture.
---@param lines string[] of the buffer, or those around the cursor
---@param row integer 1-based, into lines
---@param col integer 0-based byte
---@param ft string
---@param head string[]? first lines of the buffer, when `lines` does not begin with them
---@return gemma.Link?
function M.find(lines, row, col, ft, head)
  local w, finder = around(lines, row, col), FINDERS[ft]
  local text = w.text
  if finder == find_markdown then
    text = text .. '\n\n' .. definitions(lines, w.lo, w.hi)
  end
  local found = pick(w, finder, text)
  if not found then
    return nil
  end
  local first, last = row, row
  while first > w.lo and w.starts[first] > found.from do
    first = first - 1
  end
  while last < w.hi and w.starts[last + 1] <= found.to do
    last = last + 1
  end
  return {
    target = found.target,
    first = first,
    last = last,
    base = picture_folder(head or lines, ft),
    extensions = found.extensions,
  }
end

---@param s string
---@return string
local function unescape(s)
  return (s:gsub('%%(%x%x)', function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

--- The paths that a target can mean, most likely first; or nil and why it is none.
---@param link gemma.Link
---@param dirs string[] folders it can be relative to
---@return string[]?
---@return string? err one line
function M.resolve(link, dirs)
  local t = link.target
  local scheme = t:match('^(%a[%w+.-]+):')
  if scheme and #scheme > 1 then
    scheme = scheme:lower()
    if scheme == 'data' then
      return nil, 'pictures within the text (data:) are not read. Save the file first.'
    elseif scheme == 'attachment' or scheme == 'id' then
      return nil, ('%s: links are not followed. Name the file.'):format(scheme)
    elseif scheme ~= 'file' and t:find('^[^/]+://') then
      return nil, M.REMOTE
    end
    t = t:gsub('^[fF][iI][lL][eE]:', ''):gsub('^//localhost/', '/'):gsub('^//+', '/')
    t = t:match('^/(%a:[/\\].*)') or t
  elseif t:match('^//') then
    return nil, M.REMOTE
  end
  local names = { t }
  local plain = unescape(t)
  if plain ~= t then
    names[#names + 1] = plain
  end
  local cut = plain:match('^([^?#]+)[?#]')
  if cut then
    names[#names + 1] = cut
  end
  local out, seen = {}, {}
  local function add(path)
    path = vim.fs.normalize(path, { expand_env = false })
    if not seen[path] then
      seen[path] = true
      out[#out + 1] = path
    end
  end
  local function with_extensions(path)
    for _, ext in ipairs(link.extensions or { '' }) do
      add(ext == '' and path or path .. '.' .. ext)
    end
  end
  for _, name in ipairs(names) do
    if name:match('^[/~]') or name:match('^%a:[/\\]') then
      with_extensions(name)
      if name:match('^/') then
        -- In web sites, the top of the site.
        for _, dir in ipairs(dirs) do
          with_extensions(dir .. name)
        end
      end
    else
      for _, dir in ipairs(dirs) do
        if link.base then
          with_extensions(
            link.base:match('^/') and link.base .. '/' .. name
              or dir .. '/' .. link.base .. '/' .. name
          )
        end
        with_extensions(dir .. '/' .. name)
      end
    end
  end
  return out
end

M.REMOTE = 'http images are not fetched (no network). Save the file first.'

return M
