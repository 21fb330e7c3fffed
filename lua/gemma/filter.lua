--- filter.lua: how much of the model's text may be shown. Pure functions over strings.
---
--- The model writes on; these rules say where to stop and what would repeat the text after the
--- cursor. What body() returns is always a prefix of what came in, so text that is on the screen
--- stays valid while more arrives, and typing through it is plain string comparison.

local brackets = require('gemma.brackets')
local util = require('gemma.util')

local M = {}

---@class gemma.filter.Context
---@field before string the cursor's line left of the cursor (its end is enough)
---@field after string the cursor's line right of the cursor (its start is enough)
---@field below string[] some lines under the cursor
---@field single boolean end with the first line
---@field prose boolean no programming language: indentation means nothing
---@field fence boolean a line of ``` ends the answer
---@field tabstop integer
---@field max_lines integer
---@field spaces boolean? nil: leave indentation as the model wrote it
---@field unit integer? columns of one level, with spaces
---@field floor integer? indentation of the line that opens the scope, when a parser knows it
---@field open string[]? brackets to be closed after the cursor; nil when that is not known

--- Words that close a block when they stand alone on a line.
local CLOSING_WORD = {
  ['end'] = true,
  fi = true,
  done = true,
  esac = true,
  endif = true,
  endfor = true,
  endwhile = true,
  endfunction = true,
  endfunc = true,
  ['until'] = true,
}

--- Texts after which nothing belongs to the buffer, should they ever come as plain text.
local MARKERS = { '<turn|>', '<|turn>', '<|channel>', '<channel|>', '<eos>', '<bos>' }

-- U+202A..U+202E and U+2066..U+2069 reorder what is seen, and code must look like what it is;
-- U+FFFD stands for bytes that were no text.
local UNWANTED = { '\226\128[\170-\174]', '\226\129[\166-\169]', '\239\191\189' }

---@param s string
---@return string
local function rtrim(s)
  return (s:gsub('%s+$', ''))
end

--- The part before the first byte that has no business in a buffer: controls other than tab
--- and newline, broken UTF-8, bidirectional overrides, the model's own markers.
---@param text string
---@return string
---@return boolean cut something was dropped: the answer ends here
function M.clean(text)
  text = text:gsub('\r\n', '\n')
  -- A lone \r at the very end may be the first half of \r\n.
  local cut = text:find('[%z\1-\8\11-\31\127]') or #text + 1
  local c1 = text:find('\194[\128-\159]')
  if c1 and c1 < cut then
    cut = c1
  end
  for _, p in ipairs(UNWANTED) do
    local at = text:find(p)
    if at and at < cut then
      cut = at
    end
  end
  for _, m in ipairs(MARKERS) do
    local at = text:find(m, 1, true)
    if at and at < cut then
      cut = at
    end
  end
  local out = util.utf8_prefix(text:sub(1, cut - 1))
  local rest = text:sub(#out + 1)
  -- The start of a character at the very end may still become one.
  local held = rest == '' or rest == '\r' or (#rest < 4 and rest:find('^[\194-\244][\128-\191]*$'))
  return out, not held
end

--- Width of the white space in front of a line.
---@param line string
---@param tabstop integer
---@return integer
function M.indent(line, tabstop)
  local width = 0
  for i = 1, #line do
    local c = line:byte(i)
    if c == 32 then
      width = width + 1
    elseif c == 9 then
      width = width + tabstop - width % tabstop
    else
      break
    end
  end
  return width
end

--- Is this a line that only closes: "}", "});", "end", "end)"?
---@param line string
---@return boolean
function M.is_closer(line)
  local s = line:match('^%s*(.-)%s*$')
  if s:match('^[%]%)}]+[%]%)};,]*$') then
    return true
  end
  local word = s:match('^(%a+)[%]%)};,]*$')
  return word ~= nil and CLOSING_WORD[word] == true
end

--- Does the first line of the answer begin a line of the buffer?
---@param ctx gemma.filter.Context
---@return boolean
local function begins_line(ctx)
  return not ctx.before:find('%S')
end

--- One level in a text that is indented by spaces: what its first indented line shows, and the
--- buffer's own width where that fits. Later lines never change it, so what is shown stays.
---@param lines string[]
---@param from integer
---@param ctx gemma.filter.Context
---@return integer?
local function unit_of(lines, from, ctx)
  for i = from, #lines do
    local width = #lines[i]:match('^ *')
    if width > 1 and lines[i]:find('^ +%S') then
      for _, unit in ipairs({ ctx.tabstop, ctx.unit or ctx.tabstop, 4, 2 }) do
        if width % unit == 0 then
          return unit
        end
      end
    end
  end
end

--- Indents as the buffer does: no tabs where it has spaces, and else tabs where the model took spaces.
--- Mixed indentation and everything behind it is left alone.
---@param text string
---@param ctx gemma.filter.Context
---@return string
function M.indentation(text, ctx)
  if ctx.spaces == nil or ctx.prose then
    return text
  end
  local lines = vim.split(text, '\n', { plain = true })
  local from = begins_line(ctx) and 1 or 2
  if ctx.spaces then
    local level = (' '):rep(ctx.unit or ctx.tabstop)
    for i = from, #lines do
      local tabs = lines[i]:match('^\t+')
      if tabs then
        lines[i] = level:rep(#tabs) .. lines[i]:sub(#tabs + 1)
      end
    end
  else
    local unit = unit_of(lines, from, ctx)
    for i = from, unit and #lines or 0 do
      local spaces = #lines[i]:match('^ *')
      if lines[i]:find('^ +%S') then
        local levels = math.floor(spaces / unit)
        lines[i] = ('\t'):rep(levels) .. (' '):rep(spaces % unit) .. lines[i]:sub(spaces + 1)
      end
    end
  end
  return table.concat(lines, '\n')
end

--- What the model wrote, fit for this buffer: clean, indented as the buffer is, and ending before
--- a bracket that nothing has opened.
---@param raw string
---@param ctx gemma.filter.Context
---@return string
---@return boolean cut the answer ends here
---@return string? why
function M.prepare(raw, ctx)
  local text, cut = M.clean(raw)
  local why = cut and 'a control character' or nil
  text = M.indentation(text, ctx)
  local surplus = ctx.open and brackets.surplus(text, ctx.open)
  if surplus then
    return text:sub(1, surplus - 1), true, 'a bracket that nothing opens'
  end
  return text, cut, why
end

--- Is a token with this logarithm of its probability one to go on after?
---@param logprob number?
---@param least number probability; 0 takes every token
---@return boolean
function M.sure(logprob, least)
  return least <= 0 or not logprob or math.exp(logprob) >= least
end

--- Do two lines differ by at most one edit in twenty?
---@param a string
---@param b string
---@return boolean
function M.similar(a, b)
  if a == b then
    return true
  end
  local n, m = #a, #b
  local limit = math.floor(math.max(n, m) / 20)
  if limit < 1 or math.abs(n - m) > limit or math.max(n, m) > 200 then
    return false
  end
  local row = {}
  for j = 0, m do
    row[j] = j
  end
  for i = 1, n do
    local diag = row[0]
    row[0] = i
    local best = i
    for j = 1, m do
      local cost = a:byte(i) == b:byte(j) and diag or diag + 1
      diag = row[j]
      row[j] = math.min(cost, row[j] + 1, row[j - 1] + 1)
      best = math.min(best, row[j])
    end
    if best > limit then
      return false
    end
  end
  return row[m] <= limit
end

--- Where a line begins to say the same thing over and over: at least six times and 24 bytes.
--- Rulers of one punctuation character are left alone.
---@param line string
---@return integer? column 1-based, of the second time
function M.runaway(line)
  local n = #line
  for unit = 1, 20 do
    if unit * 6 > n then
      return nil
    end
    local piece = line:sub(n - unit + 1)
    local times = 1
    while line:sub(n - (times + 1) * unit + 1, n - times * unit) == piece do
      times = times + 1
    end
    local ruler = piece:find('^%p') and piece == piece:sub(1, 1):rep(unit)
    if times >= 6 and times * unit >= 24 and piece:find('%S') and not ruler then
      return n - (times - 1) * unit + 1
    end
  end
end

---@param lines string[]
---@return string?
local function first_text(lines)
  for _, l in ipairs(lines) do
    if l:find('%S') then
      return rtrim(l)
    end
  end
end

--- Does line i end the suggestion, with or without itself?
---@param lines string[]
---@param i integer
---@param ctx gemma.filter.Context
---@param st { base: integer, deeper: boolean, below: string? } what earlier lines showed
---@return 'before'|'after'|nil
---@return string? why
local function verdict(lines, i, ctx, st)
  local line = lines[i]
  local full = i == 1 and ctx.before .. line or line
  local blank = not line:find('%S')
  if ctx.fence and line:find('^%s*```') and (i > 1 or begins_line(ctx)) then
    return 'before', 'end of the code'
  end
  if blank then
    if i > 2 and not lines[i - 1]:find('%S') then
      return 'before', 'two blank lines'
    end
    return nil
  end
  if st.below and M.similar(rtrim(full), st.below) then
    return 'before', 'it repeats the next line'
  end
  if i > 2 and line == lines[i - 1] and line == lines[i - 2] then
    return 'before', 'it repeats itself'
  end
  if ctx.prose then
    return nil
  end
  local ind = M.indent(full, ctx.tabstop)
  if not st.base then
    st.base = ind
  elseif i > 1 and ind > st.base then
    st.deeper = true
  elseif i > 1 and (ctx.floor and ind <= ctx.floor or not ctx.floor and ind < st.base) then
    local closed = st.below and M.is_closer(st.below) and M.indent(st.below, ctx.tabstop) == ind
    local ends = M.is_closer(line) and not closed and (not ctx.floor or ind == ctx.floor)
    return ends and 'after' or 'before', 'the block ends'
  elseif i > 1 and st.deeper and M.is_closer(line) then
    return 'after', 'the block ends'
  end
end

--- How much of the text is ready to be shown: whole lines only, unless done.
---@param text string everything the model wrote so far
---@param ctx gemma.filter.Context
---@param done boolean no more will come
---@return string body a prefix of prepare(text), without blanks at its end
---@return boolean stop the model need not go on
---@return string? why it stopped
---@return string tail the unfinished line after body; '' when there is nothing to add
function M.body(text, ctx, done)
  local cut, why
  text, cut, why = M.prepare(text, ctx)
  done = done or cut
  local lines = vim.split(text, '\n', { plain = true })
  local n_whole = done and #lines or #lines - 1
  local st = { base = nil, deeper = false, below = first_text(ctx.below) }
  if ctx.before:find('%S') then
    st.base = M.indent(ctx.before, ctx.tabstop)
  end
  local stop = done
  local bytes, kept_bytes = 0, 0
  for i = 1, n_whole do
    local what, reason = verdict(lines, i, ctx, st)
    local run = what ~= 'before' and M.runaway(lines[i])
    if run then
      kept_bytes = bytes + run - 1
      stop, why = true, 'it repeats itself'
      break
    elseif what == 'before' then
      stop, why = true, reason
      break
    end
    bytes = bytes + #lines[i]
    -- A blank line is held back until something follows it.
    if lines[i]:find('%S') then
      kept_bytes = bytes
    end
    if what == 'after' then
      stop, why = true, reason
      break
    elseif i >= ctx.max_lines or ctx.single then
      stop, why = true, ctx.single and 'end of the line' or 'line limit'
      break
    end
    bytes = bytes + 1
  end
  local body = text:sub(1, kept_bytes)
  local tail = ''
  if not stop then
    tail = text:sub(kept_bytes + 1)
    local last = lines[#lines]
    if M.runaway(last) then
      stop, why = true, 'it repeats itself'
      tail = tail:sub(1, #tail - #last + M.runaway(last) - 1)
    end
  end
  if stop then
    body = rtrim(body .. tail)
    tail = ''
  end
  return body, stop, why, tail
end

--- The words of an unfinished line that can be shown already: nothing that may still turn out
--- to repeat the text after the cursor.
---@param tail string what body() gave; may begin with newlines
---@param ctx gemma.filter.Context
---@return string
function M.partial(tail, ctx)
  local line = tail:match('[^\n]*$')
  local words = line:match('^(.*[%w_\128-\255])[^%w_\128-\255]+[^%s]*$') or ''
  -- Closing characters at the end are left out: they may be the ones that are there already.
  words = words:gsub('[%s%)%]}"\'`;,]+$', '')
  if not words:find('%S') then
    return ''
  end
  local head = tail:sub(1, #tail - #line)
  local full = head == '' and ctx.before .. line or line
  local below = first_text(ctx.below)
  if below and vim.startswith(below, rtrim(full)) then
    return ''
  end
  if ctx.fence and line:find('^%s*`') then
    return ''
  end
  return head .. words
end

--- Makes a suggestion fit the text right of the cursor: drops an end that is there already, and
--- says which of its closing characters replace those after the cursor.
---@param text string
---@param before string
---@param after string
---@param quote string? one that was opened before the text, which may go on within it
---@return string shown
---@return integer[] closers where in it they stand: who accepts so far removes as many bytes right of the cursor
function M.fit_after(text, before, after, quote)
  local there = rtrim(after)
  if there == '' or text == '' then
    return text, {}
  end
  local also_there = brackets.open_quote(before, after)
  -- Without an end on its line it was an apostrophe.
  local within = not also_there and quote and text:match('^[^\n]*'):find(quote, 1, true) and quote
    or nil
  local unpaired = brackets.unpaired(text, also_there or within)
  if within and unpaired[1] and unpaired[1].char == within then
    table.remove(unpaired, 1) -- its end, which is not there yet
  end
  local is_unpaired = {}
  for _, u in ipairs(unpaired) do
    is_unpaired[u.pos] = true
  end
  for k = math.min(#text, #there), 1, -1 do
    local start = #text - k + 1
    if text:sub(start) == there:sub(1, k) then
      -- Brackets that the suggestion opened itself are its own.
      local foreign = true
      for p = start, #text do
        local c = text:sub(p, p)
        if (brackets.CLOSE[c] or brackets.QUOTE[c]) and not is_unpaired[p] then
          foreign = false
        end
      end
      if foreign and (k == #there or k >= 4 or #unpaired > 0) then
        return rtrim(text:sub(1, start - 1)), {}
      end
    end
  end
  local closers = {}
  for i, u in ipairs(unpaired) do
    if after:sub(i, i) ~= u.char then
      break
    end
    closers[i] = u.pos
  end
  return text, closers
end

--- Bytes right of the cursor that the first n of a text replace.
---@param closers integer[] what fit_after() gave
---@param n integer
---@return integer
function M.swallowed(closers, n)
  local swallow = 0
  for _, pos in ipairs(closers) do
    swallow = swallow + (pos <= n and 1 or 0)
  end
  return swallow
end

--- How many characters right of the cursor speak against a suggestion: closing brackets, quotes
--- and punctuation at the end of the line do not count.
---@param after string
---@return integer
function M.weight_after(after)
  local s = rtrim(after):gsub('[%]%)}"\'`;,:>]+$', '')
  return vim.fn.strchars(util.no_nul(s))
end

--- One line: up to the first newline that does not stand at the start.
---@param text string
---@return string
function M.first_line(text)
  local at = text:find('\n', 2, true)
  return at and text:sub(1, at - 1) or text
end

return M
