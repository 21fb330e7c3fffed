--- prompts.lua: training prompts, written by the plugin's own code in a Neovim without screen.
---
---   nvim --clean -l prompts.lua TOP WORK [COUNT]      COUNT 0: only the held-out ones
---   nvim --clean -l prompts.lua TOP WORK rules        only the plugin's fixed texts
---
--- TOP is the checkout. Reads WORK/corpus/train, writes WORK/prompts/{complete,explain}.jsonl, one
--- {parts, answer} a line, the same from held-out files in WORK/held, and WORK/prompts/rules.json.
--- A text that begins with a NUL byte stands for the entry of rules.json with that name, which
--- would otherwise be half of the file.

local top, work, what = _G.arg[1], _G.arg[2], _G.arg[3] or '40000'
local count = tonumber(what)
vim.opt.runtimepath:prepend(top)
package.path = top .. '/tools/embedded/?.lua;' .. package.path

local holes = require('holes')
local attach = require('gemma.attach')
local context = require('gemma.context')
local dictate = require('gemma.dictate')
local explain = require('gemma.explain')
local subject = require('gemma.subject')

--- What the plugin asks about a picture or a recording when the user asks nothing.
---@param kind string
---@return string
local function own_question(kind)
  local asked
  local chat = require('gemma.chat')
  local open = chat.open
  chat.open = function(o)
    asked = o.prompt
  end
  attach.ask({ kind = kind, name = 'x', parts = {} }, nil, { buf = 0 })
  chat.open = open
  return asked
end

local RULES = {
  complete = context.RULES,
  explain = subject.SYSTEM,
  attach = attach.SYSTEM,
  image = own_question('image'),
  audio = own_question('audio'),
  dictate = dictate.SYSTEM,
  dictation = dictate.PROMPT,
}
-- Bytes of the file that a prompt may show, as tokens: short ones are cheap to learn from, long
-- ones are what the editor sends.
local BUDGETS = { 96, 128, 192, 256, 320, 384, 512, 512, 768, 1024 }
local SHARE = { lua = 0.7, c = 0.3 }

---@param name string
---@return file*
local function open(name)
  return assert(io.open(work .. '/' .. name, 'w'))
end

---@param parts gemma.Part[]
---@param rules string
---@return string[][]
local function compact(parts, rules)
  local out = {}
  for _, p in ipairs(parts) do
    local data = p.data or ''
    out[#out + 1] = { p.kind, data == RULES[rules] and '\0' .. rules or data }
  end
  return out
end

-- ---- holes -----------------------------------------------------------------------------------

---@param out file*
---@param file table
---@param text string
---@param n integer
---@param rnd fun(n: integer): integer
local function write_holes(out, file, text, n, rnd)
  local buf, lines = holes.open(text, file.name, file.language)
  local made, tries = 0, 0
  while made < n and tries < 4 * n do
    tries = tries + 1
    local hole = holes.pick(lines, rnd)
    if hole then
      made = made + 1
      local tokens = BUDGETS[rnd(#BUDGETS)]
      local tail = rnd(7) == 1
      if tail or rnd(4) == 1 then
        hole = holes.rest(lines, hole)
      end
      holes.with(buf, lines, hole, tail, function()
        local budget = { tokens = tokens, suffix_tokens = math.floor(tokens / 4) }
        local c = context.gather(buf, hole.row, hole.col, budget)
        local parts = compact(context.parts(c), 'complete')
        out:write(vim.json.encode({ parts = parts, answer = hole.text, package = file.package }), '\n')
      end)
    end
  end
  vim.api.nvim_buf_delete(buf, { force = true })
end

-- ---- functions and what is said about them -----------------------------------------------------

--- One or two sentences of a comment, or nil when it does not say what a function is for.
---@param lines string[] without comment signs
---@return string?
local function sentence(lines)
  local said = {}
  for _, line in ipairs(lines) do
    line = vim.trim(line)
    if line:find('^[@\\]') or line:find('^[-=*/~#]+$') or line:find('^%u[%w ]+:$') then
      if #said > 0 then
        break
      end
    elseif line == '' then
      if #said > 0 then
        break
      end
    else
      said[#said + 1] = line
    end
  end
  local text = table.concat(said, ' '):gsub('%s+', ' ')
  text = text:gsub('^[%w_.:]+%(.-%)%s*[-:]*%s*', ''):gsub('^[%w_.:]+ %- ', '')
  local first = text:match('^(.-[.!])%s') or text:match('^(.-)[.:]$') or text
  first = vim.trim(first):gsub('[.:,;]*$', '') .. '.'
  local start = first:sub(1, 1)
  if #first < 20 or #first > 160 or not start:find('%a') or not first:find(' %S+ ') then
    return nil
  elseif first:find('[{}=|]') or first:find('https?:') or first:find('%f[%w]TODO') then
    return nil
  elseif first:lower():find('copyright') or first:find('FIXME') or first:find('XXX') then
    return nil
  end
  return start:upper() .. first:sub(2)
end

---@param line string
---@param language string
---@return boolean
local function begins_function(line, language)
  if language == 'lua' then
    return line:find('^local function [%w_]+%s*%(') ~= nil
      or line:find('^function [%w_.:]+%s*%(') ~= nil
      or line:find('^[%w_.]+%s*=%s*function%s*%(') ~= nil
  end
  return line:find('^[%a_][%w_%s%*]+[%s%*]%(?[%w_]+%)?%s*%(') ~= nil and not line:find(';%s*$')
end

--- The comment lines right above a row, without their signs; first row of them.
---@param lines string[]
---@param row integer 1-based
---@param language string
---@return string[]?
---@return integer? first
local function comment_above(lines, row, language)
  local out, r = {}, row - 1
  if language == 'lua' then
    while r >= 1 and lines[r]:find('^%-%-') do
      table.insert(out, 1, (lines[r]:gsub('^%-%-+%[?%[?', '')))
      r = r - 1
    end
  else
    -- The name may stand below its type.
    if r >= 1 and lines[r]:find('^[%a_][%w_%s%*]*$') then
      r = r - 1
    end
    if r >= 1 and lines[r]:find('%*/%s*$') then
      repeat
        local line = lines[r]
        table.insert(out, 1, (line:gsub('^%s*/?%*+!?', ''):gsub('%*+/%s*$', '')))
        r = r - 1
      until line:find('/%*') or r < 1
    else
      while r >= 1 and lines[r]:find('^//') do
        table.insert(out, 1, (lines[r]:gsub('^//+', '')))
        r = r - 1
      end
    end
  end
  if #out == 0 then
    return nil
  end
  return out, r + 1
end

---@param lines string[]
---@param row integer 1-based
---@param language string
---@return integer? last
local function function_end(lines, row, language)
  local body = language == 'lua'
  for r = row, math.min(#lines, row + 40) do
    -- A semicolon before the first brace: that was a declaration.
    if not body and lines[r]:find('^[^{]*;') then
      return nil
    end
    body = body or lines[r]:find('{', 1, true) ~= nil
    if language == 'lua' and lines[r]:find('^end%f[%W]') then
      return r
    elseif language == 'c' and lines[r]:find('^}') then
      return r
    end
  end
end

---@param out file*
---@param file table
---@param text string
---@param rnd fun(n: integer): integer
---@return integer
local function write_functions(out, file, text, rnd)
  local lines = vim.split(text, '\n', { plain = true })
  local made = 0
  for row, line in ipairs(lines) do
    local last = begins_function(line, file.language) and function_end(lines, row, file.language)
    local comment, first = comment_above(lines, row, file.language)
    local said = last and last - row > 1 and comment and sentence(comment)
    if said then
      made = made + 1
      local around = rnd(3) > 1 and (rnd(2) == 1 and 30 or rnd(12)) or 0
      local above = ''
      -- Half of the time the comment is there for the model to read, as it often is.
      if rnd(2) == 1 then
        above = table.concat(lines, '\n', math.max(1, first - around), row - 1)
      elseif around > 0 then
        above = table.concat(lines, '\n', math.max(1, first - around), first - 1)
      end
      local prompt = subject.prompt({
        path = file.name,
        language = file.language,
        above = above,
        code = table.concat(lines, '\n', row, last),
        below = around > 0 and table.concat(lines, '\n', last + 1, math.min(#lines, last + around))
          or '',
      }, explain.EXPLAIN)
      local parts = { { 'system', '' }, { 'text', '\0explain' }, { 'user', '' }, { 'text', prompt } }
      local entry = { parts = parts, answer = said, package = file.package }
      out:write(vim.json.encode(entry), '\n')
    end
  end
  return made
end

-- ---- all files ---------------------------------------------------------------------------------

vim.fn.mkdir(work .. '/prompts', 'p')
vim.fn.mkdir(work .. '/held', 'p')

---@param split 'train'|'held'
---@param n_holes integer
local function write(split, n_holes)
  -- One for each, so that held-out prompts do not hang on what is for training, or on whether it is written.
  local rnd = holes.random(split == 'train' and 20260711 or 20260712)
  local to = split == 'train' and 'prompts' or 'held'
  -- The second one has its name when both are whole: by it `chain` knows that this is done.
  local complete, explained = open(to .. '/complete.jsonl'), open(to .. '/explain.jsonl.new')
  local n_explained = 0
  for language, share in vim.spairs(SHARE) do
    local files = holes.files(work, split, language)
    local texts, total = {}, 0
    for i, file in ipairs(files) do
      texts[i] = holes.read(file.path)
      total = total + #texts[i]
    end
    for i, file in ipairs(files) do
      write_holes(complete, file, texts[i], math.ceil(n_holes * share * #texts[i] / total), rnd)
      n_explained = n_explained + write_functions(explained, file, texts[i], rnd)
    end
  end
  complete:close()
  explained:close()
  assert(os.rename(work .. '/' .. to .. '/explain.jsonl.new', work .. '/' .. to .. '/explain.jsonl'))
  print(('%s: %d functions with a comment'):format(split, n_explained))
end

local rules = open('prompts/rules.json')
rules:write(vim.json.encode(RULES))
rules:close()
local fixed = open('prompts/fixed.txt')
fixed:write(explain.EXPLAIN, '\n')
for _, text in vim.spairs(RULES) do
  fixed:write(text, '\n')
end
fixed:close()

if count and count > 0 then
  write('train', count)
end
if count then
  write('held', 300)
end
