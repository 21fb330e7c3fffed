--- waiting.lua: a mark at the end of the line while a suggestion that was asked for by key has nothing to
--- show yet. A large model reads for seconds, and a key that does nothing is pressed again.

local ghost = require('gemma.ghost')
local util = require('gemma.util')

local M = {}

local api = vim.api
local LATE_MS = 300 -- a quick answer needs no mark, which would only flicker

---@class gemma.Waiting
---@field buf integer
---@field row integer
---@field share number? of the prompt that is read, or of the model
---@field drawn string? what stands there

local current ---@type gemma.Waiting?

local function draw()
  local c = current
  -- The buffer may have changed without anybody having been told yet.
  if not c or c.buf ~= api.nvim_get_current_buf() or c.row >= api.nvim_buf_line_count(c.buf) then
    return
  end
  local text = c.share and ('… %d %%'):format(c.share * 100) or '…'
  if text ~= c.drawn then
    c.drawn = text
    ghost.draw(ghost.WAITING, c.buf, c.row, 0, {
      virt_text = { { text, 'GemmaGhostMore' } },
      virt_text_pos = 'eol',
    })
  end
end

local late = util.debounce(draw)

--- Somebody has begun to wait at this line.
---@param buf integer
---@param row integer 0-based
function M.start(buf, row)
  M.stop()
  current = { buf = buf, row = row }
  late.start(LATE_MS)
end

---@param share number? of the prompt that is read, or of the model
function M.update(share)
  if current then
    current.share = share
    if current.drawn then
      draw()
    end
  end
end

--- Nobody waits any more. Harmless when nobody did.
function M.stop()
  local c = current
  current = nil
  late.stop()
  if c and c.drawn then
    ghost.erase(ghost.WAITING, c.buf)
  end
end

---@return boolean
function M.active()
  return current ~= nil
end

return M
