--- gen_doc.lua: the parts of doc/gemma.txt that come from tables in the code.
---
---   nvim -l scripts/gen_doc.lua            rewrites these sections
---   nvim -l scripts/gen_doc.lua --check    exit status 1 when something is out of date or broken
---
--- A section runs from the line with its tag to the next line of "=". Those named below are
--- replaced as a whole; everything else in the file is written by hand. --check also wants every
--- |link| to have its tag and no line to be too long.

local FILE = 'doc/gemma.txt'
local WIDTH = 78

package.path = 'lua/?.lua;lua/?/init.lua;' .. package.path

---@param left string
---@param tag string
---@return string
local function tagged(left, tag)
  local right = '*' .. tag .. '*'
  local gap = WIDTH - #left - #right
  if gap < 1 then
    return (' '):rep(WIDTH - #right) .. right .. '\n' .. left
  end
  return left .. (' '):rep(gap) .. right
end

---@param text string
---@param indent integer
---@return string
local function indented(text, indent)
  local pad = (' '):rep(indent)
  return pad .. text:gsub('\n', '\n' .. pad)
end

---@param v any
---@return string
local function value(v)
  if v == nil then
    return 'not set'
  end
  return vim.inspect(v, { newline = ' ', indent = '' }):gsub('"', "'")
end

---@param items string[]
---@return string
local function wrapped_list(items)
  local lines, line = {}, '   '
  for _, item in ipairs(items) do
    if #line + #item + 2 > WIDTH then
      lines[#lines + 1] = line
      line = '   '
    end
    line = line .. ' ' .. item
  end
  lines[#lines + 1] = line
  return table.concat(lines, '\n')
end

local sections = {}

sections['gemma-options'] = function()
  local out = {
    'Options are fields of |vim.g| variable `gemma`, for example >lua',
    '    vim.g.gemma = {',
    "      model_path = '~/models/gemma-4-12b-it-Q4_0.gguf',",
    '      completion = { max_lines = 4 },',
    '    }',
    '<',
    '`vim.g.gemma` is read at first use and again on each Insert mode and each',
    ':Gemma command. It may be a function that returns the table.',
    "`require('gemma').setup(opts)` merges opts into it and does nothing else.",
    'Wrong types and unknown names are reported once, and by |:checkhealth|.',
  }
  for _, o in ipairs(require('gemma.config').schema) do
    out[#out + 1] = ''
    out[#out + 1] = tagged(o.name, 'gemma-option-' .. o.name)
    out[#out + 1] = indented('type: ' .. o.type.text, 4)
    local default = value(o.default)
    if #default > 60 then
      local items = {}
      if vim.islist(o.default) then
        for i, v in ipairs(o.default) do
          items[i] = value(v)
        end
      else
        for k, v in vim.spairs(o.default) do
          items[#items + 1] = ('%s=%s'):format(k, value(v))
        end
      end
      out[#out + 1] = '    default:'
      out[#out + 1] = wrapped_list(items)
    else
      out[#out + 1] = '    default: ' .. default
    end
    out[#out + 1] = ''
    out[#out + 1] = indented(o.desc, 4)
  end
  return table.concat(out, '\n')
end

sections['gemma-commands'] = function()
  local command = require('gemma.command')
  local out = {
    tagged(':[range]GemmaExplain [question]', ':GemmaExplain'),
    indented(
      [[Explain the lines of the range, or without one the function around the
cursor (by treesitter; else the paragraph). With a question, answer that.
See |gemma-answer|.]],
      4
    ),
    '',
    tagged(':Gemma[!] [subcommand] [argument]', ':Gemma'),
    '    Without a subcommand: status.',
  }
  for _, name in ipairs(command.names()) do
    local c = command.commands[name]
    local left = (c.range and ':[range]Gemma ' or ':Gemma ') .. name .. (c.args and ' ' .. c.args or '')
    out[#out + 1] = ''
    out[#out + 1] = tagged(left, 'gemma-' .. name)
    out[#out + 1] = '    ' .. c.desc:sub(1, 1):upper() .. c.desc:sub(2) .. '.'
  end
  return table.concat(out, '\n')
end

local KEY_RECIPES = [[
For example, `gmip` explains a paragraph and `gmm` the function here: >lua
    vim.keymap.set({ 'n', 'x' }, 'gm', '<Plug>(gemma-explain)')
    vim.keymap.set('n', 'gmm', '<Plug>(gemma-explain-here)')
<
Another key, which without ghost text does nothing: >lua
    vim.keymap.set('i', '<F8>', '<Plug>(gemma-accept)')
<
                                                                   *gemma-tab*
Or one that then does what it does otherwise, such as <Tab>, which jumps in a
snippet: >lua
    vim.keymap.set('i', '<Tab>', function()
      if require('gemma').visible() then
        return '<Plug>(gemma-accept)'
      elseif vim.snippet.active({ direction = 1 }) then
        return '<Cmd>lua vim.snippet.jump(1)<CR>'
      end
      return '<Tab>'
    end, { expr = true, remap = true })
<
Where a completion plugin has the key, tell it. blink.cmp: >lua
    keymap = {
      ['<Tab>'] = {
        function() return require('gemma').accept() end,
        'snippet_forward',
        'fallback',
      },
    }
<
nvim-cmp: >lua
    mapping = {
      ['<Tab>'] = function(fallback)
        if not require('gemma').accept() then
          fallback()
        end
      end,
    }
<]]

sections['gemma-keys'] = function()
  local out = {
    'Insert mode. Each key is mapped on the first Insert mode, and only where',
    'nobody has mapped it and its <Plug> map is not used otherwise. Without ghost',
    'text a key does what it does without the plugin, but for <M-\\>, which asks.',
    '<Tab> is never mapped.',
    '',
  }
  for _, k in ipairs(require('gemma.keymap').keys) do
    local name = k.plug:match('gemma%-([%w-]+)')
    out[#out + 1] = tagged(('%-11s %s'):format(k.key, k.plug), 'gemma-key-' .. name)
    out[#out + 1] = '            ' .. k.desc:gsub('^Gemma: (%l)', string.upper) .. '.'
  end
  vim.list_extend(out, {
    '',
    'Normal and Visual mode have <Plug> maps without default keys. Operators take',
    'a motion, a text object or the selection, and whole lines of it.',
    '',
  })
  for _, p in ipairs(require('gemma.operator').plugs) do
    local tag = 'gemma-plug-' .. p.name
    out[#out + 1] = tagged(('<Plug>(gemma-%s)'):format(p.name), tag)
    out[#out + 1] = '            ' .. p.desc
  end
  out[#out + 1] = ''
  out[#out + 1] = KEY_RECIPES
  return table.concat(out, '\n')
end

sections['gemma-highlights'] = function()
  local out = { 'All are default links; a colour scheme or |:highlight| changes them.', '' }
  for _, g in ipairs(require('gemma.highlight').groups) do
    local links = table.concat(g.links, ', or ')
    out[#out + 1] = tagged(g.name, 'hl-' .. g.name)
    out[#out + 1] = ('    %s; links to %s'):format(g.desc, links)
  end
  return table.concat(out, '\n')
end

sections['gemma-events'] = function()
  local out = { '|User| autocommands with `data`:', '' }
  for _, e in ipairs(require('gemma.api').events) do
    out[#out + 1] = tagged(e.name, e.name)
    out[#out + 1] = indented(e.data, 4)
  end
  local states = require('gemma.api').states
  local line = 'States are: ' .. table.concat(states, ', ') .. '.'
  out[#out + 1] = ''
  -- Two lines of it.
  local cut = line:sub(1, 76):match('^.*() ')
  out[#out + 1] = line:sub(1, cut - 1)
  out[#out + 1] = line:sub(cut + 1)
  return table.concat(out, '\n')
end

sections['gemma-functions'] = function()
  local out = {
    "Fields of `require('gemma')`, with the version in which they came. One that",
    'goes is announced by |vim.deprecate()| and works on until the version named',
    'there. Everything else in `gemma.*` may change at any time.',
    '',
  }
  for _, f in ipairs(require('gemma.api').functions) do
    local left = ('%s(%s)'):format(f.name, f.args)
    local own = 'gemma.' .. f.name .. '()'
    local more = f.see and (' See |%s|.'):format(f.see) or ''
    -- What is described at length elsewhere has its tag there.
    out[#out + 1] = f.see == own and left or tagged(left, own)
    out[#out + 1] = indented(('%s%s (%s)'):format(f.desc, more, f.since), 4)
  end
  return table.concat(out, '\n')
end

---@param text string
---@return string
local function generate(text)
  for tag, make in pairs(sections) do
    local lines, out, state = vim.split(text, '\n', { plain = true }), {}, 'before'
    for _, l in ipairs(lines) do
      if state == 'before' and l:find('%*' .. vim.pesc(tag) .. '%*') and l:match('^%u') then
        state = 'inside'
        vim.list_extend(out, { l, '' })
        vim.list_extend(out, vim.split(make(), '\n', { plain = true }))
        out[#out + 1] = ''
      elseif state == 'inside' and l:match('^=+$') then
        state = 'after'
      end
      if state ~= 'inside' then
        out[#out + 1] = l
      end
    end
    assert(state == 'after', FILE .. ': no section with tag ' .. tag)
    text = table.concat(out, '\n')
  end
  return text
end

---@param text string
---@return string[] problems
local function problems(text)
  local out, tags = {}, {}
  for tag in text:gmatch('%*([%w:_.()<>-]+)%*') do
    if tags[tag] then
      out[#out + 1] = 'tag twice: ' .. tag
    end
    tags[tag] = true
  end
  for link in text:gmatch('|([^|%s]+)|') do
    -- Links without our name are to Neovim's own help.
    if link:lower():find('gemma') and not tags[link] then
      out[#out + 1] = 'no tag for |' .. link .. '|'
    end
  end
  for n, l in ipairs(vim.split(text, '\n', { plain = true })) do
    if vim.fn.strdisplaywidth(l) > WIDTH then
      out[#out + 1] = ('line %d is too long'):format(n)
    end
  end
  return out
end

local f = assert(io.open(FILE, 'rb'))
local old = f:read('*a')
f:close()
local new = generate(old)
local bad = problems(new)
if _G.arg[1] == '--check' then
  if new ~= old then
    table.insert(bad, 1, FILE .. ' is out of date: run make doc')
  end
else
  f = assert(io.open(FILE, 'wb'))
  f:write(new)
  f:close()
end
for _, b in ipairs(bad) do
  io.stderr:write('gen_doc: ', b, '\n')
end
os.exit(#bad > 0 and 1 or 0)
