--- menu.lua: suggestions as entries of a completion menu; blink.lua and cmp.lua give them on.
---
--- A menu compares its entries with the word at the cursor, so an entry replaces that word by
--- itself and what the model writes behind it. Positions are bytes.

local M = {}

local filter = require('gemma.filter')
local util = require('gemma.util')

local api = vim.api

local LABEL = 60 -- cells
local WORD = 256 -- bytes of a word at most

---@param s string
---@return string
local function label(s)
  return util.fit(vim.trim(s:gsub('%s+', ' ')), LABEL)
end

--- Where the word at the end begins, by 'iskeyword'.
---@param left string of the cursor
---@return integer from 0
function M.word_start(left)
  -- Of a long line the end will do: 'iskeyword' is matched in a time that grows with its square.
  local tail = require('gemma.context.text').from_char(left:sub(-WORD))
  return #left - #tail + vim.fn.match(util.no_nul(tail), [[\k*$]])
end

---@class gemma.menu.Place from 0, in bytes
---@field row integer
---@field col integer
---@field from integer? where the text that is replaced begins
---@field start integer? where the word that is compared begins

---@class gemma.menu.Answer: gemma.menu.Place
---@field line string
---@field text string
---@field closers integer[] where in the text those stand that replace the bytes right of the place
---@field language string

---@class gemma.menu.Question: gemma.menu.Place
---@field buf integer
---@field done fun(items: table[])
---@field left fun()?

--- The entries for an answer: all of it, and its first line alone when there are more.
--- Words are by 'iskeyword' where a menu does not say.
---@param o gemma.menu.Answer
---@return table[] lsp.CompletionItem
function M.items(o)
  local from = o.from or M.word_start(o.line:sub(1, o.col))
  local word = o.line:sub(from + 1, o.col)
  local key = o.start and o.line:sub(o.start + 1, o.col) or word
  local first = o.text:match('^\n*[^\n]*')
  local texts = { o.text }
  if first ~= o.text and first:find('%S') then
    texts[2] = first
  end
  local out = {}
  for i, text in ipairs(texts) do
    local whole = word .. text
    out[i] = {
      label = label(i == 1 and #texts > 1 and whole:match('^\n*[^\n]*') .. ' …' or whole),
      -- With what follows the word, so that it still matches while the user types just that.
      filterText = key ~= '' and key .. text:match('^%S*') or whole:match('^%s*(%S*)'),
      sortText = ('%04d'):format(i),
      kind = 15, -- Snippet: the one of LSP's kinds that stands for several words
      insertTextFormat = 1,
      detail = 'Gemma',
      documentation = {
        kind = 'markdown',
        value = ('```%s\n%s\n```'):format(o.language, whole),
      },
      textEdit = {
        newText = whole,
        range = {
          start = { line = o.row, character = from },
          ['end'] = { line = o.row, character = o.col + filter.swallowed(o.closers, #text) },
        },
      },
    }
  end
  return out
end

--- May a menu ask in this buffer now? The model is not loaded for it.
---@param buf integer
---@return boolean
function M.available(buf)
  local allow = require('gemma.allow')
  return allow.is_on()
    and require('gemma.engine').is_loaded()
    and not allow.buffer_reason(buf)
    and not allow.moment_reason()
end

--- Asks for the entries at a place. done() hears once, unless the request is cancelled or its place is
--- left before; left() hears of the latter, since a menu cancels nothing but what it asks again.
---@param o gemma.menu.Question
---@return fun() cancel
function M.request(o)
  if not M.available(o.buf) then
    o.done({})
    return function() end
  end
  local line = api.nvim_buf_get_lines(o.buf, o.row, o.row + 1, false)[1] or ''
  local language = vim.bo[o.buf].filetype
  local over, watch = false, nil
  local function finish()
    over = true
    if watch then
      api.nvim_del_autocmd(watch)
      watch = nil
    end
  end
  local handle = require('gemma.complete').complete({
    buf = o.buf,
    row = o.row,
    col = o.col,
    on_done = function(text, _, _, closers)
      if over then
        return
      end
      finish()
      if not text or not text:find('%S') then
        return o.done({})
      end
      o.done(M.items({
        line = line,
        row = o.row,
        col = o.col,
        from = o.from,
        start = o.start,
        text = text,
        closers = closers or {},
        language = language,
      }))
    end,
  })
  local function cancel()
    finish()
    handle.cancel()
  end
  if not over then
    watch = api.nvim_create_autocmd({ 'InsertLeave', 'BufLeave', 'CursorMovedI' }, {
      buffer = o.buf,
      callback = function(ev)
        local at = api.nvim_win_get_cursor(0)
        if ev.event ~= 'CursorMovedI' or at[1] ~= o.row + 1 or at[2] ~= o.col then
          cancel()
          if o.left then
            o.left()
          end
        end
      end,
    })
  end
  return cancel
end

return M
