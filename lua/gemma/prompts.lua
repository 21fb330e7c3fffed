--- prompts.lua: :Gemma prompt, questions and edits that are kept as files.
---
--- A prompt is a Markdown file in a folder `prompts` on 'runtimepath'; of two with one name the
--- first counts, as for everything else there. parse() and expand() are pure.

local notify = require('gemma.notify')
local subject = require('gemma.subject')

local M = {}

local api = vim.api

local MAX_BYTES = 65536 -- of a file; a larger one is no prompt

---@class (exact) gemma.Prompt
---@field desc string
---@field kind 'ask'|'edit'
---@field scope 'function'|'buffer' what is meant without a range
---@field text string

local KINDS = { ask = true, edit = true }
local SCOPES = { ['function'] = true, buffer = true }

--- Reads a prompt file: lines of `key: value` between two lines of `---`, then the text.
---@param text string
---@return gemma.Prompt?
---@return string? err
function M.parse(text)
  text = text:gsub('\r\n', '\n'):gsub('^\239\187\191', '')
  local out = { desc = '', kind = 'ask', scope = 'function' }
  local head, body = text:match('^%-%-%-\n(.-)\n?%-%-%-\n(.*)$')
  for line in vim.gsplit(head or '', '\n', { plain = true }) do
    local key, value = line:match('^%s*([%w_]+)%s*:%s*(.-)%s*$')
    if key == 'desc' then
      out.desc = value
    elseif key == 'kind' and KINDS[value] then
      out.kind = value
    elseif key == 'scope' and SCOPES[value] then
      out.scope = value
    elseif line:find('%S') then
      return nil, ('"%s" is not understood'):format(vim.trim(line))
    end
  end
  out.text = vim.trim(body or text)
  if out.text == '' then
    return nil, 'there is no text'
  end
  return out
end

--- Puts values in place of {{name}}. What is put in is not looked at again. Unknown names stay.
---@param text string
---@param values table<string, string>
---@return string
---@return table<string, true> used names that occurred, known or not
function M.expand(text, values)
  local used = {}
  local out = text:gsub('{{%s*([%w_]+)%s*}}', function(name)
    used[name] = true
    return values[name]
  end)
  return vim.trim(out), used
end

--- The prompt files by name.
---@return table<string, string>
function M.files()
  local out = {}
  for _, path in ipairs(api.nvim_get_runtime_file('prompts/*.md', true)) do
    local name = vim.fs.basename(path):gsub('%.md$', '')
    out[name] = out[name] or path
  end
  return out
end

---@param lead string
---@return string[]
function M.names(lead)
  local names = vim.tbl_filter(function(n)
    return vim.startswith(n, lead)
  end, vim.tbl_keys(M.files()))
  table.sort(names)
  return names
end

---@param path string
---@return gemma.Prompt?
---@return string? err
local function read(path)
  local file, err = io.open(path, 'rb')
  if not file then
    return nil, err
  end
  local text = file:read(MAX_BYTES + 1) or ''
  file:close()
  if #text > MAX_BYTES then
    return nil, 'it is too large for a prompt'
  end
  return M.parse(text)
end

---@param buf integer
---@param first integer 1-based
---@param last integer
---@return string
local function problems(buf, first, last)
  local here = require('gemma.context.diagnostics').here(buf, first - 1, last - 1)
  return require('gemma.edit').problems(buf, here)
end

--- Asks or edits as a prompt says.
---@param name string
---@param prompt gemma.Prompt
---@param args string what was typed behind the name
---@param o { buf: integer, first: integer, last: integer, ranged: boolean } 1-based; the cursor's line
--- when no range was given
local function run(name, prompt, args, o)
  local buf, first, last = o.buf, o.first, o.last
  local around = not o.ranged and prompt.scope == 'buffer'
  if around then
    first, last = subject.window(buf, first - 1, require('gemma.explain').whole_buffer_bytes())
  elseif not o.ranged then
    first, last = subject.here(buf, first - 1)
  end
  local conf = require('gemma.config').get()
  local max = prompt.kind == 'edit' and conf.edit.max_tokens or conf.explain.max_tokens
  local s, why = subject.read(buf, first, last, max)
  if not s then
    return notify.warn(why --[[@as string]])
  end
  local task, used = M.expand(prompt.text, {
    args = args,
    selection = s.code,
    above = s.above,
    below = s.below,
    file = s.path,
    language = s.language,
    diagnostics = prompt.text:find('diagnostics', 1, true) and problems(buf, first, last) or '',
    yank = prompt.text:find('yank', 1, true) and vim.fn.getreg('"') or '',
  })
  if args ~= '' and not used.args then
    task = task .. '\n' .. args
  end
  if prompt.kind == 'edit' then
    return require('gemma.edit').start({ buf = buf, first = first, last = last, task = task })
  end
  require('gemma.explain').ask({
    buf = buf,
    first = first,
    last = last,
    around = around,
    task = task,
    shown = ('%s %s'):format(name, args),
    title = ('%s, %d-%d'):format(name, first, last),
    -- A prompt that says itself where the lines go gets nothing put in front.
    alone = used.selection,
  })
end

--- :Gemma prompt.
---@param given gemma.command.Given
function M.command(given)
  local name, args = given.text:match('^(%S+)%s*(.-)%s*$')
  local files = M.files()
  local buf, row = api.nvim_get_current_buf(), api.nvim_win_get_cursor(0)[1]
  local ranged = given.range > 0
  local o = {
    buf = buf,
    first = ranged and given.line1 or row,
    last = ranged and given.line2 or row,
    ranged = ranged,
  }
  local function start(which, words)
    local path = files[which]
    local prompt, err
    if path then
      prompt, err = read(path)
    end
    if prompt then
      return run(which, prompt, words, o)
    elseif path then
      return notify.warn(('%s: %s.'):format(vim.fn.fnamemodify(path, ':~'), err))
    end
    local names = table.concat(M.names(''), ', ')
    notify.warn(
      ('no prompt %s. There are: %s. Yours go into prompts/%s.md.'):format(which, names, which)
    )
  end
  if name then
    return start(name, args)
  end
  local take = subject.hold(buf, o.first, o.last)
  vim.ui.select(M.names(''), {
    prompt = 'Prompts',
    format_item = function(n)
      local prompt = read(files[n])
      return prompt and prompt.desc ~= '' and ('%s: %s'):format(n, prompt.desc) or n
    end,
  }, function(n)
    o.first, o.last = take()
    if n and o.first then
      start(n, '')
    end
  end)
end

return M
